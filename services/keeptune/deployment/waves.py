"""The planner of rollouts: from what is to what happens next. Pure.

`plan` takes a rollout, the hosts as they are now and the time, and gives the rollout's next state
and what its hosts should do. It makes one transition a call: call it again with its own result
until nothing changes. It remembers nothing, so a planner killed between any two calls goes on.

The promises it keeps, whatever hosts do:
- one wave at a time: a wave starts when all before it serve the new version and have baked;
- a host that fails, or goes back by itself, halts the rollout, and every host goes back;
- it always ends once it has begun, within the sum of its timeouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from keeptune.deployment import orders
from keeptune.deployment.fleet import Action, HostView, OrderKind, OrderState
from keeptune.deployment.progress import is_late, observe, trouble
from keeptune.deployment.rollout import HostProgress, Plan, Rollout, RolloutState, Stage, halt
from keeptune.deployment.way_back import back


def plan(name: str, rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Plan:
    """One transition of rollout `name`. `hosts` has every host that matches or takes part."""
    match rollout.state:
        case RolloutState.PENDING:
            return Plan(_begin(rollout, hosts, now))
        case RolloutState.PAUSED:
            return Plan(_paused(name, rollout, hosts, now))
        case RolloutState.ROLLING_OUT | RolloutState.BAKING:
            return _forward(name, rollout, hosts, now)
        case RolloutState.ROLLING_BACK:
            return back(rollout, hosts, now)
        case _:
            return Plan(rollout)


def _begin(rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Rollout:
    ready = sorted(name for name, view in hosts.items() if view.reachable)
    if not ready:
        away = f" ({len(hosts)} known, none usable: {_troubles(hosts)})" if hosts else ""
        return replace(
            rollout,
            reason=f"no connected host serves {rollout.model}{away}; waiting: start "
            "`keeptune agent run` on a serving host (`keeptune host list` shows those connected)",
            next_step="start an agent whose labels match the model's host_selector",
        )
    return replace(
        rollout,
        state=RolloutState.ROLLING_OUT,
        wave=1,
        hosts=tuple(
            HostProgress(host, _wave_of(position, rollout)) for position, host in enumerate(ready)
        ),
        reason="wave 1 begins",
        next_step="",
        since=now,
    )


def _wave_of(position: int, rollout: Rollout) -> int:
    strategy = rollout.strategy
    beyond = position - strategy.canary_hosts
    if beyond < 0:
        return 1
    return 2 + (beyond // strategy.wave_size if strategy.wave_size else 0)


def _paused(name: str, rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Rollout:
    seen = observe(name, rollout, hosts, now, timeouts=False)
    return _halted_if_failed(seen, now) or seen


def _forward(name: str, rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Plan:
    rollout = observe(name, rollout, hosts, now, timeouts=True)
    if (halted := _halted_if_failed(rollout, now)) is not None:
        return Plan(halted)
    rollout = _start_wave(rollout, now)
    staging = [host for host in rollout.hosts if host.stage is Stage.STAGING]
    if staging:
        return Plan(
            replace(
                rollout,
                state=RolloutState.ROLLING_OUT,
                finishing=False,
                reason=f"wave {rollout.wave} of {rollout.waves}: "
                f"{', '.join(host.host for host in staging)} being brought to the new version",
            ),
            tuple(_advance(rollout, hosts, host) for host in staging if _usable(hosts, host)),
        )
    if rollout.finishing:
        return _finish(name, rollout, hosts, now)
    if rollout.state is RolloutState.ROLLING_OUT:
        return Plan(
            replace(
                rollout,
                state=RolloutState.BAKING,
                since=now,
                reason=f"wave {rollout.wave} of {rollout.waves} serves and is being watched",
            )
        )
    return Plan(_bake(rollout, hosts, now))


def _halted_if_failed(rollout: Rollout, now: datetime) -> Rollout | None:
    for host in rollout.hosts:
        if host.stage in (Stage.FAILED, Stage.ROLLED_BACK):
            return halt(rollout, f"{host.host}: {host.reason}", now)
    return None


def _start_wave(rollout: Rollout, now: datetime) -> Rollout:
    return replace(
        rollout,
        hosts=tuple(
            replace(host.enter(Stage.STAGING, now), starts=1)
            if host.stage is Stage.WAITING and host.wave <= rollout.wave
            else host
            for host in rollout.hosts
        ),
    )


def _advance(rollout: Rollout, hosts: Mapping[str, HostView], host: HostProgress) -> Action:
    return orders.advance(hosts[host.host], rollout.version, bake=rollout.strategy.bake)


def _bake(rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Rollout:
    assert rollout.since is not None
    strategy = rollout.strategy
    end = rollout.since + strategy.bake
    if now < end:
        return rollout
    problem = _not_baked(rollout, hosts)
    if problem:
        if is_late(rollout, end, now):
            return halt(rollout, f"the bake of wave {rollout.wave} did not end: {problem}", now)
        return replace(rollout, reason=f"wave {rollout.wave} bakes on: {problem}")
    if rollout.wave < rollout.waves:
        return replace(
            rollout,
            state=RolloutState.ROLLING_OUT,
            wave=rollout.wave + 1,
            since=now,
            reason=f"wave {rollout.wave + 1} of {rollout.waves} begins",
        )
    return replace(
        rollout, finishing=True, since=now, reason="every wave has baked; the old version goes"
    )


def _not_baked(rollout: Rollout, hosts: Mapping[str, HostView]) -> str:
    wave = [host for host in rollout.hosts if host.wave == rollout.wave]
    for host in wave:
        view = hosts.get(host.host)
        if view is None or not view.reachable:
            return f"{host.host} cannot be watched ({trouble(view)})"
        if not view.served.healthy:
            return f"{host.host} is not healthy ({view.served.reason or 'no reason given'})"
    served, wanted = sum(host.requests for host in wave), rollout.strategy.min_bake_requests
    if served < wanted:
        return f"{served} of {wanted} requests served"
    return ""


def _finish(name: str, rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Plan:
    """Takes the old version away everywhere; the new one serves whether that works or not."""
    given_up = is_late(rollout, rollout.since, now)
    finished = []
    actions = []
    for host in rollout.hosts:
        view = hosts.get(host.host)
        if host.stage is Stage.DONE:
            finished.append(host)
        elif view is not None and view.reachable and _is_finished(name, view, rollout.version):
            finished.append(host.enter(Stage.DONE, now))
        elif given_up:
            why = f"serves it; the old version stays loaded until it answers ({trouble(view)})"
            finished.append(host.enter(Stage.DONE, now, why))
        else:
            finished.append(host)
            if view is not None and view.reachable:
                actions.append(Action(host.host, OrderKind.FINISH, rollout.version))
    rollout = replace(rollout, hosts=tuple(finished))
    if all(host.stage is Stage.DONE for host in finished):
        return Plan(
            rollout.end(
                RolloutState.SUCCEEDED, now, f"{rollout.version} serves on {_hosts(len(finished))}"
            )
        )
    return Plan(rollout, tuple(actions))


def _is_finished(name: str, view: HostView, version: str) -> bool:
    order = view.order
    return (
        order is not None
        and (order.rollout, order.kind, order.version) == (name, OrderKind.FINISH, version)
        and order.state is OrderState.DONE
        and not view.served.standby
    )


def _usable(hosts: Mapping[str, HostView], host: HostProgress) -> bool:
    view = hosts.get(host.host)
    return view is not None and view.reachable


def _troubles(hosts: Mapping[str, HostView]) -> str:
    return "; ".join(f"{name}: {trouble(hosts[name])}" for name in sorted(hosts))


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"
