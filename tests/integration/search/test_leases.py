"""The lease protocol over gRPC: what happens when workers crash, are late or repeat themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keeptune.runtime.calls import calling
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import InvalidInput, NotFound, PermissionDenied
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import (
    COMPLETED,
    CONTINUE,
    LOST,
    RUNNING,
    STOP,
    WAITING,
    WORKER_TOKEN,
    Service,
    client,
    pass_time,
    running,
    study,
    values,
)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, ManualClock()) as found:
        yield found


async def test_a_trial_goes_from_suggestion_to_completion(service: Service) -> None:
    await service.create(study())
    answer = await service.suggest()
    (leased,) = answer.trials
    assert leased.trial.name == "studies/s/trials/1"
    assert leased.trial.state == RUNNING
    assert set(values(leased.trial)) >= {"x", "rate", "depth", "kind"}
    assert (await service.report(leased, 5.0, 4.0)).directive == CONTINUE
    done = await service.complete(leased, 3.5)
    assert done.accepted
    trial = await service.trial(1)
    assert trial.state == COMPLETED
    assert dict(trial.final_measurement.metrics) == {"loss": 3.5}
    assert [(m.step, m.metrics["loss"]) for m in trial.measurements] == [(1, 5.0), (2, 4.0)]
    (attempt,) = trial.attempts
    assert attempt.worker == "w"
    assert attempt.state == search_pb2.ATTEMPT_STATE_ENDED
    counts = (await service.study()).trial_counts
    assert (counts.completed, counts.running, counts.waiting) == (1, 0, 0)


async def test_a_worker_that_asks_again_gets_its_trials_back(service: Service) -> None:
    await service.create(study())
    first = await service.suggest("w", 3)
    await pass_time(service.clock, 30)
    again = await service.suggest("w", 3)
    assert [t.trial.name for t in again.trials] == [t.trial.name for t in first.trials]
    assert [t.lease.token for t in again.trials] == [t.lease.token for t in first.trials]
    assert all(
        new.lease.expire_time.ToSeconds() == old.lease.expire_time.ToSeconds() + 30
        for new, old in zip(again.trials, first.trials, strict=True)
    )
    more = await service.suggest("w", 5)
    assert [t.trial.name for t in more.trials] == [f"studies/s/trials/{n}" for n in range(1, 6)]
    other = await service.suggest("v")
    assert other.trials[0].trial.name == "studies/s/trials/6"


async def test_a_crashed_workers_trial_goes_to_another(service: Service) -> None:
    await service.create(study())
    (lost,) = (await service.suggest("crashing")).trials
    await service.report(lost, 1.0)
    await pass_time(service.clock, 61)
    assert (await service.trial(1)).state == WAITING
    (taken,) = (await service.suggest("other")).trials
    assert taken.trial.name == lost.trial.name
    assert values(taken.trial) == values(lost.trial)
    assert taken.lease.token != lost.lease.token

    late = await service.report(lost, 2.0, start=2)
    assert late.directive == LOST
    assert not late.HasField("lease")
    too_late = await service.complete(lost, 0.0)
    assert not too_late.accepted
    assert "another" in too_late.reason
    assert too_late.trial.state == RUNNING

    assert (await service.complete(taken, 9.0)).accepted
    trial = await service.trial(1)
    assert trial.final_measurement.metrics["loss"] == 9.0
    assert [m.step for m in trial.measurements] == [1]
    assert [(a.number, a.worker, a.state) for a in trial.attempts] == [
        (1, "crashing", search_pb2.ATTEMPT_STATE_LOST),
        (2, "other", search_pb2.ATTEMPT_STATE_ENDED),
    ]


async def test_a_lease_that_ran_out_is_lost_even_before_it_is_swept(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(tmp_path, clock, sweep_seconds=60) as service:
        await service.create(study())
        (leased,) = (await service.suggest()).trials
        clock.advance(60)
        assert (await service.report(leased, 1.0)).directive == LOST
        assert (await service.trial(1)).state == WAITING
        assert not (await service.trial(1)).measurements


async def test_reports_keep_a_lease_alive(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    for _ in range(5):
        await pass_time(service.clock, 45)
        answer = await service.report(leased)
        assert answer.directive == CONTINUE
        remaining = answer.lease.expire_time.ToSeconds() - service.clock.now().timestamp()
        assert remaining == pytest.approx(60, abs=1)
    assert (await service.complete(leased, 1.0)).accepted


async def test_a_trial_that_is_lost_too_often_fails(service: Service) -> None:
    await service.create(study(max_retries=2, max_trials=1))
    for _ in range(3):
        (leased,) = (await service.suggest()).trials
        assert leased.trial.name == "studies/s/trials/1"
        await pass_time(service.clock, 61)
    trial = await service.trial(1)
    assert trial.state == search_pb2.TRIAL_STATE_FAILED
    assert "3 times" in trial.reason
    assert [a.state for a in trial.attempts] == [search_pb2.ATTEMPT_STATE_LOST] * 3
    ended = await service.study()
    assert ended.state == search_pb2.STUDY_STATE_COMPLETED
    assert ended.trial_counts.failed == 1


async def test_a_repeated_completion_is_answered_and_not_doubled(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    assert (await service.complete(leased, 1.0)).accepted
    again = await service.complete(leased, 2.0)
    assert not again.accepted
    assert "ended already" in again.reason
    assert again.trial.final_measurement.metrics["loss"] == 1.0
    assert (await service.study()).trial_counts.completed == 1


async def test_a_repeated_request_gets_its_first_answer(service: Service) -> None:
    await service.create(study())
    first = await service.suggest(request_id="a")
    assert await service.suggest(request_id="a") == first
    (leased,) = first.trials
    reported = await service.report(leased, 5.0, request_id="b")
    assert await service.report(leased, 5.0, request_id="b") == reported
    done = await service.complete(leased, 1.0, request_id="c", next=2)
    assert [t.trial.name for t in done.next.trials] == [f"studies/s/trials/{n}" for n in (2, 3)]
    assert await service.complete(leased, 1.0, request_id="c", next=2) == done
    assert (await service.study()).trial_counts.running == 2
    with pytest.raises(InvalidInput, match="another request") as caught:
        await service.complete(leased, 2.0, request_id="c", next=2)
    assert caught.value.field == "request_id"


async def test_the_next_trials_come_beside_those_held(service: Service) -> None:
    await service.create(study())
    held = (await service.suggest(count=3)).trials
    done = await service.complete(held[0], 1.0, next=1)
    assert [t.trial.name for t in done.next.trials] == ["studies/s/trials/4"]
    # Its answer was lost and the worker repeats it without a request_id: no further trial.
    again = await service.complete(held[0], 1.0, next=1)
    assert not again.accepted
    assert (await service.study()).trial_counts.running == 3


async def test_a_step_reported_again_replaces_nothing(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    await service.report(leased, 5.0, 4.0)
    await service.report(leased, 9.0, 9.0, 3.0)
    trial = await service.trial(1)
    assert [(m.step, m.metrics["loss"]) for m in trial.measurements] == [(1, 5), (2, 4), (3, 3)]


async def test_a_foreign_token_changes_nothing(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    foreign = search_pb2.LeasedTrial(trial=leased.trial, lease=search_pb2.Lease(token="not it"))
    assert (await service.report(foreign, 1.0)).directive == LOST
    refused = await service.complete(foreign, 1.0, next=1)
    assert not refused.accepted
    assert not refused.next.trials
    trial = await service.trial(1)
    assert trial.state == RUNNING
    assert not trial.measurements
    with pytest.raises(NotFound):
        await service.trial(2)


async def test_infeasible_and_failed_trials_end_for_good(service: Service) -> None:
    await service.create(study())
    one, two = (await service.suggest(count=2)).trials
    await service.complete(one, infeasible=search_pb2.Infeasible(reason="diverged"))
    await service.complete(two, failed=search_pb2.Failure(reason="no memory"))
    first, second = await service.trial(1), await service.trial(2)
    assert (first.state, first.reason) == (search_pb2.TRIAL_STATE_INFEASIBLE, "diverged")
    assert (second.state, second.reason) == (search_pb2.TRIAL_STATE_FAILED, "no memory")
    assert (await service.suggest()).trials[0].trial.name == "studies/s/trials/3"


async def test_artifacts_stay_with_their_trial(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    artifact = types_pb2.Artifact(
        sha256="a" * 64, size_bytes=3, media_type="application/vnd.safetensors", filename="w.st"
    )
    done = await service.complete(leased, 1.0, artifacts=[artifact])
    assert list(done.trial.artifacts) == [artifact]
    assert list((await service.trial(1)).artifacts) == [artifact]


async def test_stopping_a_study_tells_its_workers_to_stop(service: Service) -> None:
    await service.create(study())
    lost, kept = (await service.suggest(count=2)).trials
    await pass_time(service.clock, 50)
    await service.report(kept, 2.0)
    await pass_time(service.clock, 20)
    assert (await service.trial(1)).state == WAITING
    request = search_pb2.StopStudyRequest(name="studies/s", reason="enough")
    stopped = await service.stub.StopStudy(request)
    assert stopped.state == search_pb2.STUDY_STATE_STOPPED
    assert stopped.reason == "enough"
    assert (await service.trial(1)).state == search_pb2.TRIAL_STATE_FAILED
    answer = await service.report(kept, 1.5, start=2)
    assert answer.directive == STOP
    assert "enough" in answer.reason
    done = await service.complete(kept, pruned=search_pb2.Pruned())
    assert done.trial.state == search_pb2.TRIAL_STATE_PRUNED
    assert done.trial.final_measurement.metrics["loss"] == 1.5
    nothing = await service.suggest("another")
    assert not nothing.trials
    assert nothing.study_state == search_pb2.STUDY_STATE_STOPPED
    assert not nothing.HasField("retry_after")
    assert await service.stub.StopStudy(request) == await service.study()
    assert (await service.report(lost)).directive == LOST


async def test_workers_may_work_and_read_and_no_more(service: Service) -> None:
    await service.create(study())
    async with client(service.address, WORKER_TOKEN) as stub:
        worker = Service(stub, service.clock)
        (leased,) = (await worker.suggest()).trials
        assert (await worker.report(leased, 2.0)).directive == CONTINUE
        assert (await worker.complete(leased, 1.0)).accepted
        assert (await worker.trial(1)).state == COMPLETED
        with pytest.raises(PermissionDenied):
            await worker.create(study(), "another")
        with pytest.raises(PermissionDenied):
            await calling(stub.StopStudy(search_pb2.StopStudyRequest(name="studies/s")))


async def test_the_stream_speaks_the_same_protocol_and_survives_errors(service: Service) -> None:
    await service.create(study())
    call = service.stub.WorkTrials()

    async def ask(**message: object) -> search_pb2.WorkTrialsResponse:
        await call.write(search_pb2.WorkTrialsRequest(**message))  # type: ignore[arg-type]
        answer = await asyncio.wait_for(call.read(), 10)
        assert isinstance(answer, search_pb2.WorkTrialsResponse)
        return answer

    wanted = search_pb2.SuggestTrialsRequest(study="studies/s", worker="w")
    first = await ask(request_id="1", suggest=wanted)
    assert first.request_id == "1"
    (leased,) = first.suggest.trials
    reported = await ask(
        request_id="2",
        report=search_pb2.ReportMeasurementsRequest(
            trial=leased.trial.name,
            lease_token=leased.lease.token,
            measurements=[types_pb2.Measurement(step=1, metrics={"loss": 2})],
        ),
    )
    assert reported.report.directive == CONTINUE
    empty = await ask(request_id="3")
    assert empty.error.code == 3
    unknown = await ask(
        request_id="4", suggest=search_pb2.SuggestTrialsRequest(study="studies/no", worker="w")
    )
    assert (unknown.request_id, unknown.error.code) == ("4", 5)
    missing = await ask(
        complete=search_pb2.CompleteTrialRequest(
            trial=leased.trial.name,
            lease_token=leased.lease.token,
            measurement=types_pb2.Measurement(metrics={"other": 2}),
        ),
    )
    assert "lacks the objective 'loss'" in missing.error.message
    done = await ask(
        complete=search_pb2.CompleteTrialRequest(
            trial=leased.trial.name,
            lease_token=leased.lease.token,
            measurement=types_pb2.Measurement(metrics={"loss": 2}),
            next=1,
        ),
    )
    assert done.complete.accepted
    held = done.complete.next.trials[0].trial.name
    call.cancel()

    # After a break the same worker goes on with what it holds.
    call = service.stub.WorkTrials()
    resumed = await ask(suggest=wanted)
    assert [t.trial.name for t in resumed.suggest.trials] == [held]
    await call.done_writing()
    assert await call.read() is not resumed
