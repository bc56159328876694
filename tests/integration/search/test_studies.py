"""Studies as a whole over gRPC: created, listed, watched, changed, ended, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from keeptune.runtime.calls import calling, streaming
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
)
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import (
    COMPLETED,
    RUNNING,
    STOP,
    WAITING,
    Service,
    objective,
    pass_time,
    running,
    space,
    strings,
    study,
    values,
)

MAXIMIZE, MINIMIZE = types_pb2.GOAL_MAXIMIZE, types_pb2.GOAL_MINIMIZE


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, ManualClock()) as found:
        yield found


async def test_a_study_comes_back_as_it_was_asked_for(service: Service) -> None:
    asked = study(
        display_name="A study",
        labels={"team": "vision"},
        lease_duration=Duration(seconds=5),
        max_retries=0,
        pruning=search_pb2.Pruning(asha=search_pb2.AshaPruning(reduction_factor=4)),
        budget=search_pb2.Budget(max_trials=9, max_duration=Duration(seconds=90)),
    )
    created = await service.create(asked)
    assert await service.study() == created
    assert created.name == "studies/s"
    for field in ("space", "display_name", "labels", "lease_duration", "max_retries", "budget"):
        assert getattr(created, field) == getattr(asked, field), field
    assert created.pruning.asha == search_pb2.AshaPruning(min_steps=1, reduction_factor=4)
    assert created.metrics[0].role == search_pb2.METRIC_ROLE_OBJECTIVE
    assert created.state == search_pb2.STUDY_STATE_ACTIVE
    assert created.seed == 7
    assert created.chosen_algorithm == "random"
    assert created.metadata.revision > 0
    assert created.next_step


async def test_ids_and_seeds_are_drawn_once(service: Service) -> None:
    asked = study()
    asked.ClearField("seed")
    request = search_pb2.CreateStudyRequest(study=asked, request_id="r")
    first = await service.stub.CreateStudy(request)
    assert await service.stub.CreateStudy(request) == first
    assert first.seed
    second = await service.stub.CreateStudy(search_pb2.CreateStudyRequest(study=asked))
    assert second.name != first.name
    assert second.seed != first.seed
    with pytest.raises(AlreadyExists):
        await service.create(study(), first.name.removeprefix("studies/"))


async def test_auto_says_what_it_chose_and_why(service: Service) -> None:
    created = await service.create(study(algorithm="auto", max_trials=30))
    assert created.algorithm.name == "auto"
    assert created.chosen_algorithm == "bayesian+tpe"
    assert "30 trials for 5 parameters" in created.chosen_because
    finite = types_pb2.SearchSpace(
        parameters=[types_pb2.ParameterSpec(name="kind", categories=strings("a", "b"))]
    )
    small = await service.create(study(algorithm="auto", space=finite), "small")
    assert small.chosen_algorithm == "grid"
    assert "2 points" in small.chosen_because


async def test_a_budget_of_trials_ends_a_study(service: Service) -> None:
    await service.create(study(max_trials=3))
    trials = (await service.suggest(count=5)).trials
    assert len(trials) == 3
    nothing = await service.suggest("other")
    assert not nothing.trials
    assert nothing.study_state == search_pb2.STUDY_STATE_ACTIVE
    assert nothing.retry_after.seconds
    for leased in trials:
        await service.complete(leased, 1.0)
    ended = await service.study()
    assert ended.state == search_pb2.STUDY_STATE_COMPLETED
    assert "3 trials" in ended.reason
    assert (await service.suggest()).study_state == search_pb2.STUDY_STATE_COMPLETED


async def test_a_larger_budget_wakes_a_completed_study(service: Service) -> None:
    await service.create(study(max_trials=1))
    await service.run(1)
    changed = search_pb2.Study(name="studies/s", budget=search_pb2.Budget(max_trials=2))
    request = search_pb2.UpdateStudyRequest(study=changed, update_mask=FieldMask(paths=["budget"]))
    woken = await service.stub.UpdateStudy(request)
    assert woken.state == search_pb2.STUDY_STATE_ACTIVE
    assert not woken.reason
    assert len(await service.run(1)) == 1
    assert (await service.study()).state == search_pb2.STUDY_STATE_COMPLETED


async def test_a_budget_of_time_ends_a_study(service: Service) -> None:
    await service.create(
        study(
            budget=search_pb2.Budget(max_duration=Duration(seconds=100)),
            lease_duration=Duration(seconds=30),
        )
    )
    _, kept = (await service.suggest(count=2)).trials
    await pass_time(service.clock, 20)
    await service.report(kept)
    await pass_time(service.clock, 20)
    assert (await service.trial(1)).state == WAITING
    for _ in range(3):
        await service.report(kept)
        await pass_time(service.clock, 20)
    assert (await service.trial(1)).state == search_pb2.TRIAL_STATE_FAILED
    assert not (await service.suggest("other")).trials
    assert (await service.study()).state == search_pb2.STUDY_STATE_ACTIVE
    assert (await service.complete(kept, 1.0)).accepted
    ended = await service.study()
    assert ended.state == search_pb2.STUDY_STATE_COMPLETED
    assert "time is up" in ended.reason


async def test_an_idle_study_ends_when_its_time_is_up(service: Service) -> None:
    await service.create(study(budget=search_pb2.Budget(max_duration=Duration(seconds=10))))
    await pass_time(service.clock, 11)
    assert (await service.study()).state == search_pb2.STUDY_STATE_COMPLETED


async def test_a_grid_ends_when_every_point_was_tried(service: Service) -> None:
    grid = types_pb2.SearchSpace(
        parameters=[
            types_pb2.ParameterSpec(name="kind", categories=strings("a", "b")),
            types_pb2.ParameterSpec(
                name="n",
                int_range=types_pb2.IntRange(min=1, max=3),
                conditions=[types_pb2.Condition(parent="kind", values=strings("b"))],
            ),
        ]
    )
    await service.create(study(algorithm="grid", space=grid, budget=search_pb2.Budget()))
    trials = (await service.suggest(count=10)).trials
    assert [values(t.trial) for t in trials] == [
        {"kind": "a"},
        {"kind": "b", "n": 1},
        {"kind": "b", "n": 2},
        {"kind": "b", "n": 3},
    ]
    for leased in trials:
        await service.complete(leased, 1.0)
    ended = await service.study()
    assert ended.state == search_pb2.STUDY_STATE_COMPLETED
    assert "every point" in ended.reason


async def test_updates_are_guarded_by_mask_and_etag(service: Service) -> None:
    created = await service.create(study(labels={"a": "1"}))

    async def update(*paths: str, etag: str = "", **fields: Any) -> Any:
        changed = search_pb2.Study(
            name="studies/s", metadata=types_pb2.Metadata(etag=etag), **fields
        )
        request = search_pb2.UpdateStudyRequest(study=changed, update_mask=FieldMask(paths=paths))
        return await calling(service.stub.UpdateStudy(request))

    changed = await update(
        "display_name", "labels", etag=created.metadata.etag, display_name="new", labels={"b": "2"}
    )
    assert (changed.display_name, dict(changed.labels)) == ("new", {"b": "2"})
    assert changed.budget == created.budget
    with pytest.raises(Conflict, match="read it again"):
        await update("display_name", etag=created.metadata.etag, display_name="stale")
    with pytest.raises(InvalidInput, match="cannot be updated"):
        await update("space")
    with pytest.raises(InvalidInput, match="is empty"):
        await update()
    with pytest.raises(InvalidInput, match="has no limit"):
        await update("budget")
    assert await service.study() == changed
    # A trial that ends does not make the etag stale.
    await service.run(1)
    await update("max_retries", etag=changed.metadata.etag, max_retries=1)


async def test_studies_are_listed_filtered_and_paged(service: Service) -> None:
    for i in range(5):
        await service.create(study(labels={"team": "ab"[i % 2]}, max_trials=1), f"s{i}")
    await service.run(1, study="s4")

    async def names(**request: Any) -> tuple[list[str], str]:
        page = await calling(service.stub.ListStudies(search_pb2.ListStudiesRequest(**request)))
        return [found.name[-1] for found in page.studies], page.next_page_token

    assert (await names())[0] == ["0", "1", "2", "3", "4"]
    assert (await names(filter='labels.team = "a" AND state = ACTIVE'))[0] == ["0", "2"]
    assert (await names(filter="state = COMPLETED"))[0] == ["4"]
    first, token = await names(page_size=2, order_by="create_time desc")
    second, token = await names(page_size=2, order_by="create_time desc", page_token=token)
    third, end = await names(page_size=2, order_by="create_time desc", page_token=token)
    assert sorted(first + second + third) == ["0", "1", "2", "3", "4"]
    assert not end
    with pytest.raises(InvalidInput) as caught:
        await names(filter="colour = red")
    assert caught.value.field == "filter"


async def test_trials_are_listed_filtered_ordered_and_paged(service: Service) -> None:
    await service.create(study())
    losses = [3.0, 1.0, 2.0, 5.0]
    trials = (await service.suggest(count=6)).trials
    await service.report(trials[1], 9.0)
    for leased, loss in zip(trials, losses, strict=False):
        await service.complete(leased, loss)

    async def numbers(**request: Any) -> list[int]:
        return [int(t.name.rpartition("/")[2]) for t in await service.trials(**request)]

    assert await numbers() == [1, 2, 3, 4, 5, 6]
    assert await numbers(filter="state = RUNNING") == [5, 6]
    assert await numbers(filter="metrics.loss < 2.5") == [2, 3]
    assert await numbers(filter="state = COMPLETED", order_by="metrics.loss") == [2, 3, 1, 4]
    assert (await numbers(order_by="metrics.loss desc"))[:2] == [4, 1]
    assert await numbers(filter="source = random", page_size=1) == [1]
    request = search_pb2.ListTrialsRequest(
        parent="studies/s", page_size=4, order_by="metrics.loss desc"
    )
    page = await service.stub.ListTrials(request)
    request.page_token = page.next_page_token
    rest = await service.stub.ListTrials(request)
    assert len(page.trials) + len(rest.trials) == 6
    assert not {t.name for t in page.trials} & {t.name for t in rest.trials}
    assert not rest.next_page_token
    assert not (await service.trials())[1].measurements
    assert (await service.trials(include_measurements=True))[1].measurements[0].step == 1
    with pytest.raises(NotFound):
        await service.trials(study="none")


async def test_the_best_trial_is_found(service: Service) -> None:
    await service.create(study())
    assert not (await optimal(service)).trials
    done = await service.run(6)
    best = min(range(6), key=lambda i: objective(done[i]))
    (found,) = (await optimal(service)).trials
    assert found.name == f"studies/s/trials/{best + 1}"


async def test_the_best_of_several_objectives_under_a_constraint(service: Service) -> None:
    metrics = [
        search_pb2.Metric(name="quality", goal=MAXIMIZE),
        search_pb2.Metric(name="latency", goal=MINIMIZE),
        search_pb2.Metric(
            name="memory", goal=MINIMIZE, role=search_pb2.METRIC_ROLE_CONSTRAINT, limit=10
        ),
    ]
    await service.create(study(metrics=metrics))
    measured = [(0.9, 9, 5), (0.8, 3, 5), (0.7, 4, 5), (0.99, 1, 11), (0.9, 9, 5)]
    for leased, (quality, latency, memory) in zip(
        (await service.suggest(count=5)).trials, measured, strict=True
    ):
        final = {"quality": quality, "latency": latency, "memory": memory, "extra": 1.0}
        await service.complete(leased, measurement=types_pb2.Measurement(metrics=final))
    assert [t.name[-1] for t in (await optimal(service)).trials] == ["1", "2"]


async def test_known_results_are_imported_and_learned_from(service: Service) -> None:
    await service.create(study(algorithm="nevergrad/OnePlusOne"))
    best = {
        "x": types_pb2.ParameterValue(double_value=3),
        "rate": types_pb2.ParameterValue(double_value=1e-3),
        "depth": types_pb2.ParameterValue(int_value=4),
        "kind": types_pb2.ParameterValue(string_value="a"),
    }
    known = search_pb2.Trial(
        state=COMPLETED,
        parameters=best,
        final_measurement=types_pb2.Measurement(metrics={"loss": -9}),
        measurements=[types_pb2.Measurement(step=3, metrics={"loss": 1})],
    )
    request = search_pb2.AddTrialsRequest(study="studies/s", trials=[known] * 2, request_id="r")
    added = await service.stub.AddTrials(request)
    assert await service.stub.AddTrials(request) == added
    assert [t.name[-1] for t in added.trials] == ["1", "2"]
    assert (await service.trial(1)).source == "import"
    assert (await service.trial(1)).measurements[0].step == 3
    (leased,) = (await service.suggest()).trials
    assert leased.trial.name == "studies/s/trials/3"
    # The budget is for suggestions only, and the best is the imported one.
    assert (await service.study()).trial_counts.completed == 2
    assert (await optimal(service)).trials[0].name == "studies/s/trials/1"
    # OnePlusOne steps from the best that it was told of.
    await service.complete(leased, 50.0)
    near = [(await service.suggest(f"w{i}")).trials[0].trial for i in range(6)]
    assert min(abs(values(trial)["x"] - 3) for trial in near) < 3


async def test_a_study_starts_from_earlier_ones(service: Service) -> None:
    await service.create(study(), "earlier")
    await service.run(8, study="earlier")
    created = await service.create(
        study(algorithm="nevergrad/OnePlusOne", warm_start=["studies/earlier"])
    )
    assert list(created.warm_start) == ["studies/earlier"]
    assert created.trial_counts.completed == 0
    warm = await service.run(4)
    await service.create(study(algorithm="nevergrad/OnePlusOne"), "cold")
    assert await service.run(4, study="cold") != warm
    with pytest.raises(InvalidInput) as caught:
        await service.create(study(warm_start=["studies/earlier", "studies/none"]), "x")
    assert caught.value.field == "study.warm_start[1]"
    with pytest.raises(NotFound):
        await service.study("x")


async def test_pruning_stops_a_poor_trial(service: Service) -> None:
    pruning = search_pb2.Pruning(median=search_pb2.MedianPruning(startup_trials=2))
    await service.create(study(pruning=pruning))
    good = (await service.suggest(count=2)).trials
    for leased in good:
        await service.report(leased, 3.0, 2.0, 1.0)
        await service.complete(leased, 1.0)
    fine, poor = (await service.suggest(count=2)).trials
    assert (await service.report(fine, 3.0, 2.0)).directive != STOP
    answer = await service.report(poor, 9.0, 9.0)
    assert answer.directive == STOP
    assert "median of 2" in answer.reason
    assert (await service.report(poor)).directive == STOP
    done = await service.complete(poor, pruned=search_pb2.Pruned())
    assert done.trial.state == search_pb2.TRIAL_STATE_PRUNED
    assert "median" in done.trial.reason
    assert done.trial.final_measurement.step == 2
    assert (await service.study()).trial_counts.pruned == 1


async def test_a_pruned_trial_is_not_given_to_another(service: Service) -> None:
    pruning = search_pb2.Pruning(asha=search_pb2.AshaPruning(reduction_factor=2))
    await service.create(study(pruning=pruning))
    good, poor = (await service.suggest(count=2)).trials
    await service.report(good, 1.0)
    assert (await service.report(poor, 5.0)).directive == STOP
    await pass_time(service.clock, 61)
    assert (await service.trial(2)).state == search_pb2.TRIAL_STATE_PRUNED
    assert (await service.trial(1)).state == WAITING


async def test_hyperband_is_kept_and_prunes(service: Service) -> None:
    hyperband = search_pb2.HyperbandPruning(max_steps=9)
    created = await service.create(study(pruning=search_pb2.Pruning(hyperband=hyperband)))
    assert await service.study() == created
    whole = search_pb2.HyperbandPruning(max_steps=9, min_steps=1, reduction_factor=3)
    assert created.pruning.hyperband == whole
    trials = list((await service.suggest(count=12)).trials)
    why = [(await service.report(trial, float(i))).reason for i, trial in enumerate(trials)]
    # Each is worse than the one before; only those of the first bracket are judged by step 1.
    assert any("of bracket 1" in reason for reason in why)
    assert sum(map(bool, why)) < 10


async def test_a_forecast_is_kept_and_prunes_what_will_not_win(service: Service) -> None:
    asked = search_pb2.ForecastPruning(max_steps=20)
    created = await service.create(study(pruning=search_pb2.Pruning(forecast=asked)))
    assert await service.study() == created
    whole = search_pb2.ForecastPruning(level=0.05, max_steps=20)
    assert created.pruning.forecast == whole
    good, poor = (await service.suggest(count=2)).trials
    await service.report(good, *(1.0 + 1 / step for step in range(1, 21)))
    answer = await service.report(poor, *[9.0] * 6)
    assert answer.directive == search_pb2.TRIAL_DIRECTIVE_CONTINUE
    await service.complete(good, 1.05)
    answer = await service.report(poor, *[9.0] * 4, start=7)
    assert answer.directive == STOP
    assert "below 5.00%" in answer.reason


async def test_watchers_see_everything_and_resume(service: Service) -> None:
    created = await service.create(study(max_trials=1))
    (leased,) = (await service.suggest()).trials
    await service.report(leased, 2.0)
    seen = await events(service, 0, 3)
    assert seen[0].study.metadata == created.metadata
    assert seen[0].study.space == created.space
    assert seen[1].trial.state == RUNNING
    assert seen[1].trial.metadata.revision == seen[1].revision
    assert seen[2].measurement.trial == leased.trial.name
    assert seen[2].measurement.measurement.metrics["loss"] == 2.0
    later = asyncio.create_task(events(service, seen[1].revision, 3))
    await asyncio.sleep(0.1)
    await service.complete(leased, 1.0)
    rest = await later
    assert rest[0] == seen[2]
    assert rest[1].trial.state == COMPLETED
    assert rest[2].study.state == search_pb2.STUDY_STATE_COMPLETED
    revisions = [event.revision for event in seen + rest[1:]]
    assert revisions == sorted(set(revisions))
    assert (await service.trial(1)).metadata.revision == rest[1].revision


async def test_a_deleted_study_is_gone(service: Service) -> None:
    created = await service.create(study())
    (leased,) = (await service.suggest()).trials
    watching = asyncio.create_task(events(service, 0, 99))
    await asyncio.sleep(0.1)
    with pytest.raises(Conflict):
        await calling(
            service.stub.DeleteStudy(search_pb2.DeleteStudyRequest(name="studies/s", etag="0"))
        )
    request = search_pb2.DeleteStudyRequest(name="studies/s", etag=created.metadata.etag)
    await service.stub.DeleteStudy(request)
    with pytest.raises(NotFound):
        await watching
    for call in (service.study(), service.suggest(), service.trial(1), service.complete(leased, 1)):
        with pytest.raises(NotFound):
            await call
    # A new study of the same name has nothing of the old one, in memory neither.
    await service.create(study(seed=8))
    assert not await service.trials()
    assert values((await service.suggest()).trials[0].trial) != values(leased.trial)
    assert (await service.complete(leased, 1.0)).accepted is False
    assert {e.WhichOneof("event") for e in await events(service, 0, 2)} == {"study", "trial"}


async def test_algorithms_are_listed(service: Service) -> None:
    answer = await service.stub.ListAlgorithms(search_pb2.ListAlgorithmsRequest())
    names = [found.name for found in answer.algorithms]
    assert names[:4] == ["auto", "random", "grid", "quasi-random"]
    assert "nevergrad/OnePlusOne" in names
    assert len(names) > 500
    assert all(found.source and found.conditional for found in answer.algorithms)


async def test_studies_outlive_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.create(study())
        first = await service.suggest(count=2)
        await service.complete(first.trials[0], 1.0)
        before = await service.study()
    async with running(tmp_path) as service:
        assert await service.study() == before
        again = await service.suggest()
        assert again.trials[0].trial == first.trials[1].trial
        assert again.trials[0].lease.token == first.trials[1].lease.token


async def test_leases_do_not_run_out_while_the_server_is_away(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(tmp_path, clock) as service:
        await service.create(study())
        (leased,) = (await service.suggest()).trials
    clock.advance(timedelta(hours=1).total_seconds())
    async with running(tmp_path, clock) as service:
        await pass_time(clock, 5)
        assert (await service.complete(leased, 1.0)).accepted


async def optimal(service: Service) -> search_pb2.ListOptimalTrialsResponse:
    request = search_pb2.ListOptimalTrialsRequest(parent="studies/s")
    return await calling(service.stub.ListOptimalTrials(request))


async def events(service: Service, after: int, count: int) -> list[search_pb2.WatchStudyResponse]:
    request = search_pb2.WatchStudyRequest(study="studies/s", revision=after)
    call: grpc.aio.UnaryStreamCall[Any, Any] = service.stub.WatchStudy(request)
    found = []
    async for event in streaming(call):
        found.append(event)
        if len(found) == count:
            call.cancel()
            break
    return found


def test_the_space_of_these_tests_is_conditional() -> None:
    assert any(parameter.conditions for parameter in space().parameters)
