"""RetuningService as its callers know it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.calls import calling
from keeptune.runtime.db import Database
from keeptune.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Violation,
)
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    monitoring_pb2,
    retuning_pb2,
    training_pb2,
)
from tests.integration.retuning.service import Script, policy, running

SERVING = "models/m/versions/7"


def signal(identifier: str = "s1", version: str = SERVING) -> monitoring_pb2.Signal:
    result = monitoring_pb2.Signal(
        id=identifier,
        kind=monitoring_pb2.SIGNAL_KIND_DRIFT,
        host="hosts/h",
        version=version,
        summary="image.mean moved",
    )
    result.onset_time.GetCurrentTime()
    return result


async def test_applying_a_policy_tunes_and_deploys_the_first_version(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.apply(policy())
        retune = await service.newest_reaches("SUCCEEDED")
        assert retune.trigger == retuning_pb2.TRIGGER_KIND_FIRST
        assert retune.version == SERVING
        names = [retuning_pb2.RetuneState.Name(t.state) for t in retune.history]
        assert [name.removeprefix("RETUNE_STATE_") for name in names] == [
            "REQUESTED", "SEARCHING", "EVALUATING", "ROLLING_OUT", "SUCCEEDED",
        ]  # fmt: skip
        made = service.script.made
        assert made["study"].budget.max_trials == 20
        assert made["version"].lineage.retune == retune.name
        assert made["rollout"].evaluation == retune.evaluation
        assert set(service.script.calls.values()) <= {1, 2}
        # The same policy again changes nothing.
        await service.apply(policy())
        assert len(await service.retunes()) == 1


async def test_signals_of_many_hosts_become_one_retune_with_all_their_evidence(
    tmp_path: Path,
) -> None:
    script = Script()
    async with running(tmp_path, script) as service:
        await service.apply(policy(min_rows=600))
        await service.newest_reaches("SUCCEEDED")
        script.captures = 10
        once = signal("s1")
        first = await service.request(request_id="s1", evidence=[once])
        assert first.decision == retuning_pb2.REQUEST_DECISION_STARTED
        again = await service.request(request_id="s1", evidence=[once])
        other = await service.request(request_id="s2", evidence=[signal("s2")])
        assert other.decision == retuning_pb2.REQUEST_DECISION_JOINED
        assert {first.retune.name, other.retune.name, again.retune.name} == {first.retune.name}
        waiting = await service.get(first.retune.name)
        assert [e.id for e in waiting.evidence] == ["s1", "s2"]
        script.captures = 1000
        done = await service.reaches(first.retune.name, "SUCCEEDED")
        assert done.fresh.training_rows == 450
        assert [d.uri for d in script.made["training"].datasets] == [
            "/data/train.npz",
            "/captures/training.npz",
        ]
        names = [d.display_name for d in script.made["evaluation"].datasets]
        assert names == ["original", "recent"]
        assert len(await service.retunes()) == 2


async def test_fresh_data_need_no_held_out_share(tmp_path: Path) -> None:
    script = Script()
    async with running(tmp_path, script) as service:
        await service.apply(policy(min_rows=600, recent_fraction=0.0))
        await service.newest_reaches("SUCCEEDED")
        answer = await service.request(request_id="s1", evidence=[signal("s1")])
        await service.reaches(answer.retune.name, "SUCCEEDED")
        assert [d.uri for d in script.made["training"].datasets][1] == "/captures/training.npz"
        assert [d.display_name for d in script.made["evaluation"].datasets] == ["original"]
        assert not script.made["evaluation"].HasField("profile_dataset")


async def test_evidence_of_an_earlier_onset_may_join_while_the_captures_are_exported(
    tmp_path: Path,
) -> None:
    script = Script()
    async with running(tmp_path, script) as service:
        await service.apply(policy(min_rows=600))
        await service.newest_reaches("SUCCEEDED")
        script.lost_answers = 1000
        first = await service.request(request_id="s1", evidence=[signal("s1")])
        async with asyncio.timeout(10):
            while script.lost_answers == 1000:
                await asyncio.sleep(0.02)
        earlier = signal("s2")
        earlier.onset_time.seconds -= 60
        await service.request(request_id="s2", evidence=[earlier])
        script.lost_answers = 0
        await service.reaches(first.retune.name, "SUCCEEDED")


async def test_a_policy_made_again_is_brought_to_the_registry(tmp_path: Path) -> None:
    script = Script()
    async with running(tmp_path, script) as service:
        for rate in (0.25, 0.5, 0.75):
            wanted = policy()
            wanted.monitoring.sampling_rate = rate
            await service.apply(wanted)
            await service.newest_reaches("SUCCEEDED")
            async with asyncio.timeout(10):
                while script.made["model"].monitoring.sampling_rate != rate:
                    await asyncio.sleep(0.02)
            await service.stub.DeletePolicy(retuning_pb2.DeletePolicyRequest(name="policies/p"))


async def test_a_retune_does_not_undo_a_newer_way_of_watching(tmp_path: Path) -> None:
    script = Script()
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        await service.newest_reaches("SUCCEEDED")
        async with asyncio.timeout(10):
            while not script.calls["UpdateModel models/m"]:
                await asyncio.sleep(0.02)
        await service.request(request_id="by hand")
        await service.newest_reaches("SUCCEEDED")
        assert script.calls["UpdateModel models/m"] == 1


async def test_a_cooldown_is_told_and_is_no_lasting_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        slow = policy()
        slow.cooldown.CopyFrom(Duration(seconds=1))
        await service.apply(slow)
        await service.newest_reaches("SUCCEEDED")
        refused = await service.request(request_id="s1", evidence=[signal()])
        assert refused.decision == retuning_pb2.REQUEST_DECISION_COOLDOWN
        assert 0 < refused.retry_after.ToTimedelta().total_seconds() <= 1
        assert not refused.HasField("retune")
        (shown,) = await service.policies()
        assert shown.last_refusal.decision == retuning_pb2.REQUEST_DECISION_COOLDOWN
        assert shown.last_refusal.reason == refused.reason
        assert shown.last_refusal.note == signal().summary
        ended = (await service.retunes())[0].end_time
        assert shown.cooldown_end_time.ToDatetime() - ended.ToDatetime() == timedelta(seconds=1)
        decisions = set()
        while retuning_pb2.REQUEST_DECISION_STARTED not in decisions:
            decisions.add((await service.request(request_id="s1", evidence=[signal()])).decision)
        assert len(await service.retunes()) == 2
        # What was refused has been granted since.
        (shown,) = await service.policies()
        assert not shown.HasField("last_refusal")


async def test_a_policy_says_why_the_registry_is_not_in_line_with_it(tmp_path: Path) -> None:
    script = Script(outages=Counter({"UpdateModel": 8}))

    async def shown(expected: bool) -> retuning_pb2.Policy:
        async with asyncio.timeout(20):
            while bool((found := (await service.policies())[0]).sync_problem) is not expected:
                await asyncio.sleep(0.02)
        return found

    async with running(tmp_path, script) as service:
        await service.apply(policy())
        assert (await shown(True)).sync_problem == "UpdateModel is out"
        assert (await shown(False)).sync_problem == ""


async def test_agents_cannot_ignore_the_cooldown(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.apply(policy())
        await service.newest_reaches("SUCCEEDED")
        request = retuning_pb2.RequestRetuneRequest(
            model="models/m", evidence=[signal()], force=True
        )
        with pytest.raises(PermissionDenied):
            await calling(service.agent.RequestRetune(request))
        request.force = False
        answer = await calling(service.agent.RequestRetune(request))
        assert answer.decision == retuning_pb2.REQUEST_DECISION_STARTED


async def test_stale_evidence_starts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.apply(policy())
        await service.newest_reaches("SUCCEEDED")
        old = signal(version="models/m/versions/3")
        answer = await service.request(request_id="s9", evidence=[old])
        assert answer.decision == retuning_pb2.REQUEST_DECISION_STALE
        assert len(await service.retunes()) == 1


async def test_a_rejected_candidate_is_never_registered(tmp_path: Path) -> None:
    script = Script(verdict=evaluation_pb2.VERDICT_OUTCOME_REJECTED)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        retune = await service.newest_reaches("REJECTED")
        assert "as scripted" in retune.reason
        assert retune.next_step
        assert "version" not in script.made


@pytest.mark.parametrize(
    ("rollout", "state"),
    [
        (deployment_pb2.ROLLOUT_STATE_ROLLED_BACK, "ROLLED_BACK"),
        (deployment_pb2.ROLLOUT_STATE_FAILED, "FAILED"),
        (deployment_pb2.ROLLOUT_STATE_BAKING, "BAKING"),
    ],
)
async def test_the_rollout_decides(tmp_path: Path, rollout: int, state: str) -> None:
    async with running(tmp_path, Script(rollout=rollout)) as service:
        await service.apply(policy())
        assert (await service.newest_reaches(state)).reason == "as scripted"


async def test_another_rollout_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path, Script(rollout_refusal="ROLLOUT_UNDER_WAY")) as service:
        await service.apply(policy())
        waiting = await service.newest_reaches("ROLLING_OUT")
        async with asyncio.timeout(10):
            while (await service.get(waiting.name)).reason != "not now":
                await asyncio.sleep(0.02)
        service.script.rollout_refusal = ""
        await service.reaches(waiting.name, "SUCCEEDED")


async def test_a_rollout_that_is_refused_for_good_ends_the_retune(tmp_path: Path) -> None:
    async with running(tmp_path, Script(rollout_refusal="GATE_NOT_PASSED")) as service:
        await service.apply(policy())
        assert "not now" in (await service.newest_reaches("FAILED")).reason


async def test_approval_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        careful = policy()
        careful.require_approval = True
        await service.apply(careful)
        retune = await service.newest_reaches("AWAITING_APPROVAL")
        assert "rollout" not in service.script.made
        await service.stub.ApproveRetune(
            retuning_pb2.ApproveRetuneRequest(name=retune.name, note="looks good")
        )
        assert (await service.reaches(retune.name, "SUCCEEDED")).note == "looks good"


async def test_cancelling_stops_the_training(tmp_path: Path) -> None:
    script = Script(training=training_pb2.TRAINING_STATE_RUNNING)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        retune = await service.newest_reaches("SEARCHING")
        await service.stub.CancelRetune(
            retuning_pb2.CancelRetuneRequest(name=retune.name, reason="enough")
        )
        assert (await service.reaches(retune.name, "CANCELLED")).reason == "enough"
        assert script.training == training_pb2.TRAINING_STATE_CANCELLED
        assert any(call.startswith("StopStudy") for call in script.calls)


async def test_a_failed_training_leaves_no_study_open(tmp_path: Path) -> None:
    script = Script(training=training_pb2.TRAINING_STATE_FAILED)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        assert (await service.newest_reaches("FAILED")).reason == "as scripted"
        assert any(call.startswith("StopStudy") for call in script.calls)


async def test_cancelling_during_the_bake_rolls_back(tmp_path: Path) -> None:
    script = Script(rollout=deployment_pb2.ROLLOUT_STATE_BAKING)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        retune = await service.newest_reaches("BAKING")
        request = retuning_pb2.CancelRetuneRequest(name=retune.name, reason="too hot")
        await service.stub.CancelRetune(request)
        async with asyncio.timeout(10):
            while script.rollout != deployment_pb2.ROLLOUT_STATE_ROLLING_BACK:
                await asyncio.sleep(0.02)
        # Somebody else wants the same, in other words.
        request.reason = "stop it"
        await service.stub.CancelRetune(request)
        asked = f"RollBack rollouts/{retune.name.removeprefix('retunes/')}"
        before = script.calls[asked]
        async with asyncio.timeout(10):
            while script.calls[asked] < before + 2:
                await asyncio.sleep(0.02)
        script.rollout = deployment_pb2.ROLLOUT_STATE_ROLLED_BACK
        assert (await service.reaches(retune.name, "CANCELLED")).reason == "too hot"


async def test_peers_that_are_away_are_waited_for(tmp_path: Path) -> None:
    methods = ("CreateModel", "CreateStudy", "CreateTraining", "CreateEvaluation")
    script = Script()
    # More than the channel's own retries cover.
    script.outages.update(dict.fromkeys((*methods, "CreateModelVersion", "CreateRollout"), 6))
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        retune = (await service.retunes())[-1]
        await service.reaches(retune.name, "SUCCEEDED", seconds=60)
        assert script.outages.total() == 0


async def test_a_store_that_cannot_be_used_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = Counter[str]()

    def failing(method: str) -> Any:
        inner = getattr(Database, method)

        async def call(database: Database, fn: Any) -> Any:
            if outages[method]:
                outages[method] -= 1
                raise ResourceExhausted("the disk is full")
            return await inner(database, fn)

        return call

    for method in ("read", "run"):
        monkeypatch.setattr(Database, method, failing(method))
    script = Script(training=training_pb2.TRAINING_STATE_RUNNING)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        name = (await service.newest_reaches("SEARCHING")).name
        outages.update(read=2, run=2)
        script.training = training_pb2.TRAINING_STATE_SUCCEEDED
        async with asyncio.timeout(20):
            while outages.total():
                await asyncio.sleep(0.02)
        await service.reaches(name, "SUCCEEDED")


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    script = Script(training=training_pb2.TRAINING_STATE_RUNNING)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        name = (await service.newest_reaches("SEARCHING")).name
    script.training = training_pb2.TRAINING_STATE_SUCCEEDED
    async with running(tmp_path, script) as service:
        await service.reaches(name, "SUCCEEDED")
        identifier = name.removeprefix("retunes/")
        assert script.calls[f"CreateStudy {identifier}"] == 1
        assert script.calls[f"CreateTraining {identifier}"] == 1


async def test_a_study_learns_from_the_model_s_earlier_ones(tmp_path: Path) -> None:
    earlier = {"studies/e": 0, "studies/d": 9, "studies/c": 8, "studies/b": 7, "studies/a": 6}
    script = Script(studies=earlier, useless=("studies/c",))
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        await service.newest_reaches("SUCCEEDED")
        assert list(script.made["study"].warm_start) == ["studies/d", "studies/b"]
        model = policy().model.removeprefix("models/")
        assert script.made["studies filter"] == f'labels.model = "{model}"'


async def test_watching_resumes_after_a_revision(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.apply(policy())
        name = (await service.newest_reaches("SUCCEEDED")).name
        seen = []
        call = service.stub.WatchRetunes(retuning_pb2.WatchRetunesRequest())
        async for event in call:
            seen.append(event)
            if event.retune.HasField("end_time"):
                break
        call.cancel()
        middle = seen[len(seen) // 2].revision
        resumed = []
        call = service.stub.WatchRetunes(
            retuning_pb2.WatchRetunesRequest(policy="policies/p", revision=middle)
        )
        async for event in call:
            resumed.append(event)
            if event.retune.HasField("end_time"):
                break
        call.cancel()
        assert resumed == [event for event in seen if event.revision > middle]
        assert {event.retune.name for event in seen} == {name}


async def test_a_trainer_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        wrong = policy()
        wrong.trainer = "trainers/imagine"
        with pytest.raises(InvalidInput) as caught:
            await service.apply(wrong)
        assert caught.value.field == "policy.trainer"
        assert await service.retunes() == []


async def test_two_policies_cannot_keep_one_model(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.apply(policy())
        request = retuning_pb2.ApplyPolicyRequest(policy_id="other", policy=policy())
        with pytest.raises(FailedPrecondition, match="policies/p"):
            await calling(service.stub.ApplyPolicy(request))


async def test_validate_only_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        checked = await service.apply(policy(), validate_only=True)
        assert checked.search.budget.max_trials == 20
        with pytest.raises(NotFound):
            await service.request(request_id="x")


async def test_what_peers_would_refuse_is_refused_by_its_place_in_the_policy(
    tmp_path: Path,
) -> None:
    script = Script(
        refusals={
            "CreateStudy": InvalidInput(
                field="study.space.parameters[0].float_range.min", problem="is above max"
            ),
            "CreateTraining": InvalidInput.many(
                [
                    Violation("training.datasets[1].uri", "is missing", "give another"),
                    Violation("training.fixed.parameters['x']", "is unknown"),
                    Violation("training.recipe.augmentation", "is no use"),
                ]
            ),
            "CreateEvaluation": InvalidInput(
                field="evaluation.gate.rules[0].metric", problem="is 'acuracy'"
            ),
            "CreateRollout": NotImplementedYet("no shadow", field="rollout.strategy.shadow"),
        }
    )
    async with running(tmp_path, script) as service:
        with pytest.raises(InvalidInput) as caught:
            await service.apply(policy())
        assert [each.field for each in caught.value.violations] == [
            "policy.search.space.parameters[0].float_range.min",
            "policy.data.training[1].uri",
            "policy.search.space['x']",
            "policy.training.recipe.augmentation",
            "policy.gate.rules[0].metric",
        ]
        assert caught.value.violations[1].fix == "give another"
        shadow = script.refusals.pop("CreateRollout")
        script.refusals = {"CreateRollout": shadow}
        with pytest.raises(NotImplementedYet) as later:
            await service.apply(policy())
        assert later.value.field == "policy.rollout.shadow"
        listed = await calling(service.stub.ListPolicies(retuning_pb2.ListPoliciesRequest()))
        assert not listed.policies
        assert await service.retunes() == []


async def test_a_peer_that_is_away_does_not_hold_a_policy_up(tmp_path: Path) -> None:
    script = Script(refusals={"CreateTraining": Unavailable("out"), "CreateStudy": Unavailable("")})
    async with running(tmp_path, script) as service:
        assert (await service.apply(policy())).last_retune


async def test_a_policy_that_is_applied_again_is_taken_though_its_data_has_gone(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as service:
        first = await service.apply(policy(), request_id="once")
        gone = InvalidInput(field="training.datasets[0].uri", problem="is missing")
        service.script.refusals["CreateTraining"] = gone
        assert await service.apply(policy(), request_id="once") == first
        assert (await service.apply(policy())).name == first.name


async def test_the_candidate_is_judged_against_who_serves_by_then(tmp_path: Path) -> None:
    script = Script(training=training_pb2.TRAINING_STATE_RUNNING)
    async with running(tmp_path, script) as service:
        await service.apply(policy())
        name = (await service.newest_reaches("SEARCHING")).name
        # Somebody rolls a version out, or back, by hand.
        script.champion = "models/m/versions/3"
        script.training = training_pb2.TRAINING_STATE_SUCCEEDED
        retune = await service.reaches(name, "SUCCEEDED")
        assert retune.champion == "models/m/versions/3"
        assert script.made["evaluation"].HasField("champion")
