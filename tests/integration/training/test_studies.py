"""Studies run by the training service's workers, against the real search service."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.artifacts import from_proto
from keeptune.runtime.errors import from_rpc_error
from keeptune.v1 import search_pb2, training_pb2, types_pb2
from tests.integration.training.conftest import Client, space, until

pytestmark = pytest.mark.xdist_group("training")

SUCCEEDED = training_pb2.TRAINING_STATE_SUCCEEDED
FAILED = training_pb2.TRAINING_STATE_FAILED
COMPLETED = search_pb2.TRIAL_STATE_COMPLETED
PRUNED = search_pb2.TRIAL_STATE_PRUNED

GRID = search_pb2.Algorithm(name="grid")
LEVELS = [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]


def progress_of(
    events: list[training_pb2.WatchTrainingResponse],
) -> list[training_pb2.TrainingProgress]:
    return [event.progress for event in events if event.WhichOneof("event") == "progress"]


def anomalies_of(
    events: list[training_pb2.WatchTrainingResponse],
) -> list[training_pb2.TrainingAnomaly]:
    return [event.anomaly for event in events if event.WhichOneof("event") == "anomaly"]


async def test_a_study_of_digits_ends_in_its_best_model(client: Client) -> None:
    trainer = await client.training.GetTrainer(
        training_pb2.GetTrainerRequest(name="trainers/image")
    )
    study = await client.study(
        space=trainer.recommended_space,
        metrics=[search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)],
        algorithm=search_pb2.Algorithm(name="quasi-random"),
        budget=search_pb2.Budget(max_trials=6),
        pruning=search_pb2.Pruning(median=search_pb2.MedianPruning(startup_trials=2)),
    )
    created = await client.create(
        trainer="trainers/image",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri=client.here.digits)],
        study=study,
        max_epochs=6,
    )
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    assert training.trials_done == 6
    trials = await client.trials(study)
    assert {trial.state for trial in trials} <= {COMPLETED, PRUNED}
    scores = {
        trial.name: trial.final_measurement.metrics["accuracy"]
        for trial in trials
        if trial.state == COMPLETED
    }
    assert scores[training.best_trial] == max(scores.values()) >= 0.93
    assert training.best_measurement.metrics["accuracy"] == max(scores.values())

    told = Counter(each.trial for each in progress_of(events))
    assert told == {trial.name: len(trial.measurements) for trial in trials}
    assert {each.worker for each in progress_of(events)} == {
        f"{created.name}/workers/0",
        f"{created.name}/workers/1",
    }
    (best,) = [trial for trial in trials if trial.name == training.best_trial]
    assert best.artifacts == [training.model.weights]
    assert client.here.artifacts.exists_sync(from_proto(training.model.onnx).sha256)


async def test_trials_below_the_median_are_pruned(client: Client) -> None:
    study = await client.study(
        space=space(level=LEVELS),
        algorithm=GRID,
        budget=search_pb2.Budget(max_trials=6),
        pruning=search_pb2.Pruning(median=search_pb2.MedianPruning(startup_trials=1)),
    )
    created = await client.create(study=study, parallelism=1, max_epochs=5)
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    trials = await client.trials(study)
    assert Counter(trial.state for trial in trials)[PRUNED] >= 1
    for trial in trials:
        shortened = trial.state == PRUNED
        assert (len(trial.measurements) < 5) == shortened
        if shortened:
            assert not trial.artifacts
    assert training.best_measurement.metrics["score"] == 25.0
    assert {each.worker for each in progress_of(events)} == {f"{created.name}/workers/0"}


async def test_a_killed_worker_costs_at_most_its_attempt(client: Client) -> None:
    study = await client.study(space=space(level=LEVELS[:4], seconds=0.3), algorithm=GRID)
    created = await client.create(study=study)
    before = psutil.Process(client.here.training.nursery().pid).create_time()
    victim: psutil.Process | None = None
    async for event in client.watch(created.name):
        if victim is None and event.progress.measurement.step == 1:
            victim = client.here.training.workers()[0]
            victim.kill()
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    (lost,) = anomalies_of(events)
    assert victim is not None
    assert lost.kind == training_pb2.ANOMALY_KIND_WORKER_LOST
    assert str(victim.pid) in lost.evidence
    assert "SIGKILL" in lost.evidence
    trials = await client.trials(study)
    assert [trial.state for trial in trials] == [COMPLETED] * 4
    # The same worker got its trial back; nobody waited for the lease (60 s) to run out.
    assert {attempt.worker for trial in trials for attempt in trial.attempts} == {
        f"{created.name}/workers/0",
        f"{created.name}/workers/1",
    }
    assert client.here.training.nursery().create_time() == before


async def test_a_killed_nursery_is_replaced(client: Client) -> None:
    study = await client.study(space=space(level=LEVELS[:4], seconds=0.3), algorithm=GRID)
    created = await client.create(study=study)
    async for event in client.watch(created.name):
        if event.WhichOneof("event") == "progress":
            break
    workers = client.here.training.workers()
    client.here.training.nursery().kill()
    until(lambda: not any(worker.is_running() for worker in workers))
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    assert len(anomalies_of(events)) == len(workers)
    assert [trial.state for trial in await client.trials(study)] == [COMPLETED] * 4


async def test_a_killed_service_leaves_no_orphans_and_goes_on(client: Client) -> None:
    study = await client.study(space=space(level=LEVELS[:4], seconds=0.3), algorithm=GRID)
    created = await client.create(study=study)
    service = client.here.training
    revision = 0
    # Once while trials run, once while the model is exported.
    for wanted in (training_pb2.TRAINING_STATE_RUNNING, training_pb2.TRAINING_STATE_EXPORTING):
        request = training_pb2.WatchTrainingRequest(name=created.name, revision=revision)
        async for event in client.training.WatchTraining(request, wait_for_ready=True):
            revision = event.revision
            running = event.WhichOneof("event") == "progress"
            if (running and wanted != training_pb2.TRAINING_STATE_EXPORTING) or (
                event.training.state == wanted == training_pb2.TRAINING_STATE_EXPORTING
            ):
                break
        below = service.processes()
        service.kill()
        until(lambda below=below: not any(process.is_running() for process in below), 5.0)
        service.start()
    request = training_pb2.WatchTrainingRequest(name=created.name, revision=revision)
    later = [event async for event in client.training.WatchTraining(request, wait_for_ready=True)]
    assert later[-1].training.state == SUCCEEDED, later[-1].training.reason
    assert [trial.state for trial in await client.trials(study)] == [COMPLETED] * 4
    assert not anomalies_of(later)


async def test_search_may_be_away_for_a_while(client: Client) -> None:
    study = await client.study(space=space(level=LEVELS[:4], seconds=0.2), algorithm=GRID)
    created = await client.create(study=study)
    async for event in client.watch(created.name):
        if event.WhichOneof("event") == "progress":
            break
    client.here.search.kill()
    await asyncio.sleep(1.0)
    client.here.search.start()
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    trials = await client.trials(study)
    assert [trial.state for trial in trials] == [COMPLETED] * 4
    # What could not be reported at once was reported later.
    assert [len(trial.measurements) for trial in trials] == [3] * 4
    assert not anomalies_of(events)


async def test_heartbeats_keep_the_lease_of_a_long_epoch(client: Client) -> None:
    study = await client.study(
        space=space(level=[1.0], seconds=4.0),
        algorithm=GRID,
        budget=search_pb2.Budget(max_trials=1),
        lease_duration=Duration(seconds=1),
    )
    created = await client.create(study=study, max_epochs=1)
    training, _ = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    (trial,) = await client.trials(study)
    assert len(trial.attempts) == 1


async def test_a_worker_that_lost_its_lease_lets_go(client: Client) -> None:
    study = await client.study(
        space=space(level=[1.0], seconds=0.5),
        algorithm=GRID,
        budget=search_pb2.Budget(max_trials=1),
        lease_duration=Duration(seconds=1),
    )
    created = await client.create(study=study, max_epochs=10, parallelism=1)
    async for event in client.watch(created.name):
        if event.WhichOneof("event") == "progress":
            break
    (worker,) = client.here.training.workers()
    worker.suspend()
    try:
        leased = await _lease(client, study)
        done = await client.search.CompleteTrial(
            search_pb2.CompleteTrialRequest(
                trial=leased.trial.name,
                lease_token=leased.lease.token,
                measurement=types_pb2.Measurement(step=1, metrics={"score": 77.0}),
            )
        )
        assert done.accepted
    finally:
        worker.resume()
    training, _ = await client.end(created.name)
    (trial,) = await client.trials(study)
    assert trial.final_measurement.metrics["score"] == 77.0
    # Nobody here made a model: the result came from elsewhere.
    assert training.state == FAILED
    assert "checkpoint" in training.reason


async def test_a_trial_that_kills_its_workers_is_given_up(client: Client) -> None:
    levels = space(level=[1.0, 2.0])
    levels.parameters.add(name="die_at").categories.values.extend(
        [types_pb2.ParameterValue(int_value=value) for value in (0, 1)]
    )
    study = await client.study(
        space=levels,
        algorithm=GRID,
        lease_duration=Duration(seconds=30),
    )
    created = await client.create(study=study)
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    trials = await client.trials(study)
    assert Counter(trial.state for trial in trials) == {
        COMPLETED: 2,
        search_pb2.TRIAL_STATE_FAILED: 2,
    }
    assert all("died" in t.reason or "attempt" in t.reason for t in trials if t.state != COMPLETED)
    assert anomalies_of(events)


async def test_parameters_that_cannot_work_are_infeasible(client: Client) -> None:
    study = await client.study(
        space=space(learning_rate=[1e30, 2e30]),
        algorithm=GRID,
        metrics=[search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)],
        budget=search_pb2.Budget(max_trials=2),
    )
    created = await client.create(
        trainer="trainers/image",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri=client.here.digits)],
        study=study,
    )
    training, events = await client.end(created.name)
    assert training.state == FAILED
    assert "2 infeasible" in training.reason
    assert training.next_step
    trials = await client.trials(study)
    assert [trial.state for trial in trials] == [search_pb2.TRIAL_STATE_INFEASIBLE] * 2
    assert all("nan" in trial.reason for trial in trials)
    assert {each.trial for each in anomalies_of(events)} == {trial.name for trial in trials}


async def test_a_stopped_study_ends_early_with_what_there_is(client: Client) -> None:
    study = await client.study(
        space=space(level=LEVELS, seconds=0.2),
        algorithm=GRID,
        budget=search_pb2.Budget(max_trials=6),
    )
    created = await client.create(study=study, parallelism=1)
    async for event in client.watch(created.name):
        if event.progress.trial.endswith("/trials/2"):
            break
    await client.search.StopStudy(search_pb2.StopStudyRequest(name=study))
    training, _ = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    assert training.best_trial == f"{study}/trials/1"


async def test_a_cancelled_study_goes_on_with_another_training(client: Client) -> None:
    study = await client.study(
        space=space(level=LEVELS[:4], seconds=0.3),
        algorithm=GRID,
        lease_duration=Duration(seconds=1),
    )
    created = await client.create(study=study)
    async for event in client.watch(created.name):
        if event.WhichOneof("event") == "progress":
            break
    await client.training.CancelTraining(training_pb2.CancelTrainingRequest(name=created.name))
    second = await client.create(study=study)
    training, _ = await client.end(second.name)
    assert training.state == SUCCEEDED, training.reason
    assert [trial.state for trial in await client.trials(study)] == [COMPLETED] * 4


BAD = {
    "a study that is not there": (None, grpc.StatusCode.NOT_FOUND),
    "a metric that is not measured": (
        {
            "space": space(level=LEVELS),
            "metrics": [search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)],
        },
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a parameter that is unknown": (
        {"space": space(colour=[1.0, 2.0])},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a value that is refused": (
        {"space": space(seconds=[1.0, 1e9])},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_study_that_does_not_fit_is_refused(client: Client, what: str) -> None:
    fields, code = BAD[what]
    study = "studies/none" if fields is None else await client.study(algorithm=GRID, **fields)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(study=study)
    assert caught.value.code() is code
    error = from_rpc_error(caught.value)
    assert error.field == "training.study"
    assert error.message


async def _lease(client: Client, study: str) -> search_pb2.LeasedTrial:
    """The study's trial, once its lease has run out."""
    for _ in range(100):
        given = await client.search.SuggestTrials(
            search_pb2.SuggestTrialsRequest(study=study, worker="thief", count=1)
        )
        if given.trials:
            return given.trials[0]
        await asyncio.sleep(0.1)
    raise AssertionError("the lease never ran out")


async def test_a_study_of_graphs_is_refused_with_what_can_take_it(client: Client) -> None:
    graph = types_pb2.GraphSpace(
        kinds=[types_pb2.LayerKind(kind="fc")], shape=types_pb2.GRAPH_SHAPE_CHAIN, max_nodes=3
    )
    searched = types_pb2.SearchSpace(parameters=[types_pb2.ParameterSpec(name="net", graph=graph)])
    study = await client.study(space=searched, algorithm=search_pb2.Algorithm(name="neat"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(study=study)
    error = from_rpc_error(caught.value)
    assert error.field == "training.study"
    assert "the graph 'net'" in error.message
    assert "optimize()" in error.violations[0].fix
