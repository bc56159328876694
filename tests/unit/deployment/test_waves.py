"""The planner of rollouts, on hosts that do as they are told and on hosts that do not."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.deployment import steady
from keeptune.deployment.fleet import OrderKind, Served
from keeptune.deployment.rollout import (
    Rollout,
    RolloutState,
    Stage,
    Strategy,
    pause,
    resume,
    roll_back,
)
from keeptune.runtime.errors import FailedPrecondition
from tests.unit.deployment.fleet_simulation import (
    CALM,
    MODEL,
    NEW,
    OLD,
    Behaviour,
    SimulatedHost,
    World,
)

SHORT = Strategy(
    canary_hosts=1,
    wave_size=2,
    bake=timedelta(seconds=10),
    stage_timeout=timedelta(seconds=60),
)


def world(
    *behaviours: Behaviour, strategy: Strategy = SHORT, previous: str = OLD, seed: int = 0
) -> World:
    rng = random.Random(seed)
    hosts = [
        SimulatedHost(
            f"hosts/{index}",
            random.Random(rng.random()),
            behaviour,
            Served(MODEL, previous, healthy=bool(previous)),
        )
        for index, behaviour in enumerate(behaviours)
    ]
    rollout = Rollout(MODEL, NEW, "evaluations/e", strategy=strategy, previous=previous)
    return World(rollout, champion=previous, hosts=hosts)


def serving(w: World) -> list[str]:
    return [host.served.serving for host in w.hosts]


def test_a_calm_fleet_gets_the_version_wave_by_wave() -> None:
    w = world(CALM, CALM, CALM, CALM)
    w.run(60)
    assert w.rollout.state is RolloutState.SUCCEEDED
    assert [host.wave for host in w.rollout.hosts] == [1, 2, 2, 3]
    assert serving(w) == [NEW] * 4
    assert all(host.served.standby == "" for host in w.hosts)
    assert w.champion == NEW
    states = [r.state for r in w.history]
    assert states.index(RolloutState.BAKING) > states.index(RolloutState.ROLLING_OUT)


def test_the_first_version_of_a_model_needs_no_previous_one() -> None:
    w = world(CALM, previous="")
    w.run(30)
    assert w.rollout.state is RolloutState.SUCCEEDED
    assert serving(w) == [NEW]


def test_without_a_host_it_waits_and_says_for_what() -> None:
    w = world(replace(CALM, returns=0.0))
    w.hosts[0].connected = False
    w.run(5)
    assert w.rollout.state is RolloutState.PENDING
    assert "no connected host" in w.rollout.reason
    assert "keeptune agent run" in w.rollout.reason and "keeptune host list" in w.rollout.reason
    assert w.rollout.next_step
    w.calm_down()
    w.run(60)
    assert w.rollout.state is RolloutState.SUCCEEDED


def test_a_canary_that_refuses_halts_it_before_anyone_else_is_touched() -> None:
    w = world(replace(CALM, refuses=1.0), CALM, CALM)
    w.run(30)
    assert w.rollout.state is RolloutState.ROLLED_BACK
    assert "Triton refuses to load it" in w.rollout.reason
    stages = [host.stage for host in w.rollout.hosts]
    assert stages == [Stage.FAILED, Stage.WAITING, Stage.WAITING]
    assert serving(w) == [OLD] * 3
    assert w.champion == OLD


def test_a_host_that_goes_back_by_itself_takes_the_others_along() -> None:
    w = world(CALM, CALM, CALM)
    while sum(each == NEW for each in serving(w)) < 3:
        w.tick()
    w.hosts[1].behaviour = replace(CALM, goes_back=1.0)
    w.run(3)
    w.hosts[1].behaviour = CALM
    w.run(30)
    assert w.rollout.state is RolloutState.ROLLED_BACK
    assert "hosts/1: went back by itself: too many errors" in w.rollout.reason
    assert serving(w) == [OLD] * 3
    assert {host.stage for host in w.rollout.hosts} == {Stage.ROLLED_BACK}


def test_the_way_back_is_one_quick_order_while_the_old_version_is_loaded() -> None:
    w = world(CALM)
    while serving(w) != [NEW]:
        w.tick()
    w.rollout = roll_back(w.rollout, "rollouts/r", "by hand", w.now)
    w.tick()
    order = w.hosts[0].order
    assert order is not None
    assert (order.kind, order.version) == (OrderKind.ROLL_BACK, NEW)


def test_a_host_that_never_answers_fails_after_the_stage_timeout() -> None:
    w = world(replace(CALM, works=0.0), CALM)
    begun = w.now
    while w.rollout.state is not RolloutState.ROLLING_BACK:
        w.tick()
    assert w.now - begun >= SHORT.stage_timeout
    w.calm_down()
    w.run(30)
    assert w.rollout.state is RolloutState.ROLLED_BACK
    assert "does not serve after 60 s" in w.rollout.reason


def test_a_bake_waits_for_requests_and_gives_up_without_them() -> None:
    patient = replace(SHORT, min_bake_requests=500)
    w = world(replace(CALM, traffic=0), strategy=patient)
    w.run(30)
    assert w.rollout.state is RolloutState.BAKING
    assert "0 of 500 requests" in w.rollout.reason
    w.run(60)
    assert w.rollout.state is RolloutState.ROLLED_BACK
    w = world(replace(CALM, traffic=50), strategy=patient)
    w.run(40)
    assert w.rollout.state is RolloutState.SUCCEEDED
    assert w.rollout.hosts[0].requests >= 500


def test_a_host_with_a_fresh_disk_is_begun_anew_not_blamed() -> None:
    w = world(CALM, strategy=replace(SHORT, bake=timedelta(seconds=40)))
    while serving(w) != [NEW]:
        w.tick()
    w.tick()
    w.hosts[0].served = Served(MODEL)
    w.run(60)
    assert w.rollout.state is RolloutState.SUCCEEDED
    assert serving(w) == [NEW]


def test_paused_it_stands_still_but_a_failure_still_goes_back() -> None:
    w = world(CALM, CALM)
    while serving(w)[0] != NEW:
        w.tick()
    w.tick()
    w.rollout = pause(w.rollout, "rollouts/r", w.now)
    w.run(100)
    assert w.rollout.state is RolloutState.PAUSED
    assert serving(w) == [NEW, OLD]
    w.rollout = resume(w.rollout, "rollouts/r", w.now)
    assert w.rollout.since is not None
    assert w.now - w.rollout.since < SHORT.bake, "time spent paused must not count as bake"
    w.rollout = pause(w.rollout, "rollouts/r", w.now)
    w.hosts[0].behaviour = replace(CALM, goes_back=1.0)
    w.run(2)
    w.calm_down()
    w.run(30)
    assert w.rollout.state is RolloutState.ROLLED_BACK


def test_a_succeeded_rollout_can_be_taken_back_though_the_old_version_is_gone() -> None:
    w = world(CALM, CALM)
    w.run(60)
    assert w.rollout.state is RolloutState.SUCCEEDED
    w.rollout = roll_back(w.rollout, "rollouts/r", "complaints", w.now)
    w.champion = OLD
    w.run(40)
    assert w.rollout.state is RolloutState.ROLLED_BACK
    assert serving(w) == [OLD] * 2
    assert all(host.served.standby == host.served.staged == "" for host in w.hosts)


def test_a_host_away_during_the_way_back_is_settled_when_it_returns() -> None:
    w = world(CALM, CALM, strategy=replace(SHORT, canary_hosts=2))
    while serving(w) != [NEW, NEW]:
        w.tick()
    w.hosts[1].connected = False
    w.hosts[1].behaviour = replace(CALM, returns=0.0)
    w.rollout = roll_back(w.rollout, "rollouts/r", "by hand", w.now)
    w.run(60)
    assert w.rollout.state is RolloutState.FAILED
    assert "hosts/1" in w.rollout.reason
    assert serving(w) == [OLD, NEW]
    w.calm_down()
    w.run(30)
    assert serving(w) == [OLD, OLD]


def test_a_first_version_that_was_taken_back_is_removed_from_a_host_that_was_away() -> None:
    w = world(CALM, CALM, strategy=replace(SHORT, canary_hosts=2), previous="")
    while serving(w) != [NEW, NEW]:
        w.tick()
    w.hosts[1].connected = False
    w.hosts[1].behaviour = replace(CALM, returns=0.0)
    w.rollout = roll_back(w.rollout, "rollouts/r", "by hand", w.now)
    w.run(60)
    assert serving(w) == ["", NEW]
    w.calm_down()
    w.run(10)
    assert serving(w) == ["", ""]


def test_a_broken_version_that_turns_up_again_is_taken_away() -> None:
    restored = SimulatedHost("hosts/x", random.Random(1), CALM, Served(MODEL, NEW))
    (action,) = steady.settle("", [restored.view()], broken={NEW})
    assert (action.kind, action.version, action.to_version) == (OrderKind.ROLL_BACK, NEW, "")


def test_what_was_not_rolled_out_from_here_is_left_alone_while_there_is_no_champion() -> None:
    stranger = SimulatedHost("hosts/x", random.Random(1), CALM, Served(MODEL, OLD))
    assert steady.settle("", [stranger.view()], broken={NEW}) == ()


def test_a_host_that_may_still_be_staging_is_told_to_leave_the_version() -> None:
    w = world(replace(CALM, works=0.0))
    w.run(2)
    assert w.hosts[0].order is not None
    assert w.hosts[0].order.kind is OrderKind.STAGE
    w.rollout = roll_back(w.rollout, "rollouts/r", "by hand", w.now)
    w.tick()
    assert w.rollout.state is RolloutState.ROLLING_BACK
    assert w.hosts[0].order.kind is OrderKind.ROLL_BACK


def test_a_host_that_loses_its_disk_again_and_again_counts_as_failed() -> None:
    w = world(CALM, strategy=replace(SHORT, bake=timedelta(seconds=40)))
    for _ in range(200):
        w.tick()
        if w.hosts[0].reported.serving == NEW:
            w.hosts[0].served = Served(MODEL)
    assert w.rollout.state is RolloutState.ROLLED_BACK


def test_a_new_host_gets_the_champion_without_a_rollout() -> None:
    w = world(CALM)
    w.run(60)
    w.hosts.append(SimulatedHost("hosts/late", random.Random(1), CALM, Served(MODEL)))
    w.run(10)
    assert serving(w) == [NEW, NEW]


@pytest.mark.parametrize("state", [RolloutState.ROLLED_BACK, RolloutState.FAILED])
def test_what_has_ended_badly_takes_no_commands(state: RolloutState) -> None:
    ended = Rollout(MODEL, NEW, "evaluations/e", state=state)
    now = world(CALM).now
    with pytest.raises(FailedPrecondition):
        pause(ended, "rollouts/r", now)
    with pytest.raises(FailedPrecondition):
        resume(ended, "rollouts/r", now)


chances = st.sampled_from([0.0, 0.0, 0.02, 0.1, 0.5, 1.0])
behaviours = st.builds(
    Behaviour,
    works=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    refuses=chances,
    leaves=chances,
    returns=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    loses_disk=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    goes_back=chances,
    traffic=st.sampled_from([0, 5]),
)


@settings(max_examples=150, deadline=None)
@given(
    fleet=st.lists(behaviours, min_size=1, max_size=5),
    strategy=st.builds(
        Strategy,
        canary_hosts=st.integers(1, 3),
        wave_size=st.integers(0, 2),
        bake=st.sampled_from([timedelta(0), timedelta(seconds=10)]),
        min_bake_requests=st.sampled_from([0, 20]),
        stage_timeout=st.just(timedelta(seconds=30)),
    ),
    previous=st.sampled_from([OLD, ""]),
    seed=st.integers(0, 2**16),
)
def test_whatever_hosts_do_it_ends_and_nobody_is_left_on_a_broken_version(
    fleet: list[Behaviour], strategy: Strategy, previous: str, seed: int
) -> None:
    w = world(*fleet, strategy=strategy, previous=previous, seed=seed)
    for _ in range(1500):
        if w.rollout.state.ended:
            break
        w.tick()
    if w.rollout.state is RolloutState.PENDING:
        assert not w.rollout.hosts
        assert w.rollout.next_step
    else:
        assert w.rollout.state.ended, w.rollout.reason
        assert w.rollout.end_time is not None
    w.calm_down()
    # The longest pause before a refused order is tried again is 5 minutes.
    w.run(400)
    wanted = NEW if w.rollout.state is RolloutState.SUCCEEDED else previous
    assert serving(w) == [wanted] * len(fleet)
    assert all(host.served.standby == host.served.staged == "" for host in w.hosts)
