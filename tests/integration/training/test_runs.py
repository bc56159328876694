"""Fixed runs: from parameters to a served model, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from google.protobuf import json_format

from keeptune.runtime.artifacts import from_proto
from keeptune.runtime.errors import from_rpc_error
from keeptune.v1 import search_pb2, training_pb2, types_pb2
from tests.integration.training.conftest import Client, fixed, until

pytestmark = pytest.mark.xdist_group("training")

SUCCEEDED = training_pb2.TRAINING_STATE_SUCCEEDED
FAILED = training_pb2.TRAINING_STATE_FAILED
CANCELLED = training_pb2.TRAINING_STATE_CANCELLED


async def test_digits_become_a_model_that_knows_them(client: Client) -> None:
    created = await client.create(
        trainer="trainers/image",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri=client.here.digits)],
        recipe=training_pb2.Recipe(augmentation=True),
        fixed=fixed(width=16, augmentation=0.3),
        max_epochs=8,
    )
    training, events = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    progress = [event.progress for event in events if event.WhichOneof("event") == "progress"]
    assert [each.measurement.step for each in progress] == list(range(1, 9))
    assert training.best_measurement == progress[-1].measurement
    assert training.best_measurement.metrics["accuracy"] > 0.9

    data = client.here.artifacts.get_bytes_sync(from_proto(training.model.onnx))
    properties = {each.key: each.value for each in onnx.load_from_string(data).metadata_props}
    signature = json_format.Parse(properties["keeptune.signature"], types_pb2.ModelSignature())
    assert signature == training.model.signature
    assert list(signature.classes) == list("0123456789")
    digits = np.load(client.here.digits)
    (output,) = onnxruntime.InferenceSession(data).run(
        None, {signature.inputs[0].name: digits["x"][:, None]}
    )
    assert (output.argmax(axis=1) == digits["y"]).mean() > 0.9
    header = client.here.artifacts.get_bytes_sync(from_proto(training.model.weights))[8:600]
    assert b"keeptune" in header


async def test_a_plugin_runs_like_our_own(client: Client) -> None:
    created = await client.create(fixed=fixed(level=2.0))
    training, _ = await client.end(created.name)
    assert training.state == SUCCEEDED, training.reason
    assert training.best_measurement.metrics["score"] == 6.0
    data = client.here.artifacts.get_bytes_sync(from_proto(training.model.onnx))
    (output,) = onnxruntime.InferenceSession(data).run(
        None, {"features": np.array([[1, 2], [3, 4]], dtype=np.float32)}
    )
    assert output.tolist() == [[6.0], [14.0]]


async def test_a_loss_that_is_not_finite_is_an_anomaly_and_fails(client: Client) -> None:
    created = await client.create(
        trainer="trainers/image",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri=client.here.digits)],
        fixed=fixed(learning_rate=1e30),
    )
    training, events = await client.end(created.name)
    assert training.state == FAILED
    assert "nan" in training.reason
    assert training.next_step
    (anomaly,) = [e.anomaly for e in events if e.WhichOneof("event") == "anomaly"]
    assert anomaly.kind == training_pb2.ANOMALY_KIND_NOT_FINITE
    assert anomaly.step == 1


async def test_a_run_that_kills_its_workers_fails_after_a_few(client: Client) -> None:
    created = await client.create(fixed=fixed(die_at=1))
    training, events = await client.end(created.name)
    assert training.state == FAILED
    assert "SIGKILL" in training.reason
    lost = [e.anomaly for e in events if e.WhichOneof("event") == "anomaly"]
    assert {each.kind for each in lost} == {training_pb2.ANOMALY_KIND_WORKER_LOST}
    assert len(lost) == 5
    assert "SIGKILL" in lost[0].evidence
    assert f"{created.name}/workers/0" in lost[0].evidence


async def test_cancel_ends_it_and_its_worker(client: Client) -> None:
    created = await client.create(fixed=fixed(seconds=30.0))
    until(lambda: bool(client.here.training.workers()))
    (worker,) = client.here.training.workers()
    request = training_pb2.CancelTrainingRequest(request_id=f"{created.name}/c", name=created.name)
    cancelled = await client.training.CancelTraining(request)
    assert cancelled.state == CANCELLED
    assert await client.training.CancelTraining(request) == cancelled
    again = training_pb2.CancelTrainingRequest(name=created.name)
    assert await client.training.CancelTraining(again) == cancelled
    await asyncio.to_thread(until, lambda: not worker.is_running())
    training, _ = await client.end(created.name)
    assert training == cancelled


async def test_what_has_ended_cannot_be_cancelled(client: Client) -> None:
    created = await client.create(fixed=fixed())
    training, _ = await client.end(created.name)
    assert training.state == SUCCEEDED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.training.CancelTraining(training_pb2.CancelTrainingRequest(name=created.name))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_watching_goes_on_where_it_stopped(client: Client) -> None:
    created = await client.create(fixed=fixed(seconds=0.1))
    first = []
    async for event in client.watch(created.name):
        first.append(event)
        if event.WhichOneof("event") == "progress":
            break
    rest = [event async for event in client.watch(created.name, first[-1].revision)]
    _, everything = await client.end(created.name)
    assert first + rest == everything
    assert [event async for event in client.watch(created.name, rest[-1].revision)] == []


async def test_a_repeated_request_is_done_once(client: Client) -> None:
    first = await client.create("once", fixed=fixed(level=3.0))
    assert await client.create("once", fixed=fixed(level=3.0)) == first
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create("once", fixed=fixed(level=4.0))
    assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"
    await client.end(first.name)
    listed = await client.training.ListTrainings(
        training_pb2.ListTrainingsRequest(filter='trainer = "trainers/sleepy"', page_size=1000)
    )
    assert [each.name for each in listed.trainings].count(first.name) == 1


async def test_trainings_share_the_hosts_processes(client: Client) -> None:
    created = [await client.create(fixed=fixed(seconds=0.3)) for _ in range(4)]
    most = 0
    ends = asyncio.gather(*(client.end(each.name) for each in created))
    while not ends.done():
        most = max(most, len(client.here.training.workers()))
        await asyncio.sleep(0.05)
    assert {training.state for training, _ in await ends} == {SUCCEEDED}
    assert most == 2


async def test_trainers_are_listed_without_the_broken_one(client: Client) -> None:
    found = await client.training.ListTrainers(training_pb2.ListTrainersRequest())
    assert [each.name for each in found.trainers] == [
        "trainers/image",
        "trainers/sleepy",
        "trainers/tabular",
    ]
    page = await client.training.ListTrainers(training_pb2.ListTrainersRequest(page_size=2))
    rest = await client.training.ListTrainers(
        training_pb2.ListTrainersRequest(page_size=2, page_token=page.next_page_token)
    )
    assert [*page.trainers, *rest.trainers] == list(found.trainers)
    assert not rest.next_page_token


async def test_the_service_itself_stays_light(client: Client) -> None:
    created = await client.create(fixed=fixed())
    await client.end(created.name)
    process = client.here.training.process
    assert process is not None
    maps = {Path(each.path).name for each in psutil.Process(process.pid).memory_maps()}
    assert not any(name.startswith("libtorch") for name in maps)
    # Forking copies one thread only; what the others held would stay locked for ever.
    assert client.here.training.nursery().num_threads() == 1


BAD = {
    "no trainer": ({"trainer": "trainers/nothing"}, "training.trainer"),
    "a broken trainer": ({"trainer": "trainers/broken"}, ""),
    "a wrong task": ({"task": types_pb2.TASK_CLASSIFICATION}, "training.task"),
    "an unknown parameter": ({"fixed": fixed(depth=3)}, "training.fixed.parameters['depth']"),
    "a bad value": ({"fixed": fixed(die_at=-1)}, "training.fixed.parameters['die_at']"),
    "augmentation": (
        {"recipe": training_pb2.Recipe(augmentation=True)},
        "training.recipe.augmentation",
    ),
    "a later recipe": ({"recipe": training_pb2.Recipe(privacy=True)}, "training.recipe.privacy"),
    "ray": ({"engine": "ray"}, "training.engine"),
    "a GPU": ({"resources": training_pb2.TrialResources(gpu=1)}, "training.resources.gpu"),
    "a missing file": (
        {"datasets": [types_pb2.Dataset(uri="/no/such.npz")]},
        "training.datasets[0].uri",
    ),
    "no dataset": ({"datasets": []}, "training.datasets"),
    "labels with a path": ({"labels": {"Bad Key": "x"}}, "labels"),
}
CODES = {
    "a later recipe": grpc.StatusCode.UNIMPLEMENTED,
    "ray": grpc.StatusCode.UNIMPLEMENTED,
    "a GPU": grpc.StatusCode.FAILED_PRECONDITION,
    "a broken trainer": grpc.StatusCode.FAILED_PRECONDITION,
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_is_refused_and_changes_nothing(client: Client, what: str) -> None:
    fields, field = BAD[what]
    request = training_pb2.ListTrainingsRequest(page_size=1000)
    before = await client.training.ListTrainings(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(**{"fixed": fixed(), **fields})  # type: ignore[arg-type]
    assert caught.value.code() is CODES.get(what, grpc.StatusCode.INVALID_ARGUMENT)
    error = from_rpc_error(caught.value)
    assert error.field == field
    assert error.message
    after = await client.training.ListTrainings(request)
    assert [each.name for each in after.trainings] == [each.name for each in before.trainings]


async def test_one_class_only_is_told_before_anything_runs(client: Client, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 8, 8), np.float32), y=np.zeros(9, int))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(
            trainer="trainers/image",
            task=types_pb2.TASK_CLASSIFICATION,
            datasets=[types_pb2.Dataset(uri=str(tmp_path / "a.npz"))],
            fixed=fixed(),
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "one class" in from_rpc_error(caught.value).message


async def test_images_for_tabular_are_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(
            trainer="trainers/tabular",
            task=types_pb2.TASK_CLASSIFICATION,
            datasets=[types_pb2.Dataset(uri=client.here.digits)],
            fixed=fixed(),
        )
    error = from_rpc_error(caught.value)
    assert error.field == "training.datasets"
    assert "[1, 8, 8]" in error.message


async def test_a_population_is_not_for_trainers(client: Client) -> None:
    trainer = await client.training.GetTrainer(
        training_pb2.GetTrainerRequest(name="trainers/tabular")
    )
    study = await client.study(
        space=trainer.recommended_space,
        metrics=[search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)],
        algorithm=search_pb2.Algorithm(name="pbt"),
        budget=search_pb2.Budget(max_trials=20),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(
            trainer="trainers/tabular",
            task=types_pb2.TASK_CLASSIFICATION,
            datasets=[types_pb2.Dataset(uri=client.here.digits)],
            study=study,
        )
    error = from_rpc_error(caught.value)
    assert (error.field, error.reason) == ("training.study", "ALGORITHM_UNFIT")


async def test_what_does_not_exist_is_not_found(client: Client) -> None:
    for call in (
        client.training.GetTraining(training_pb2.GetTrainingRequest(name="trainings/none")),
        client.training.CancelTraining(training_pb2.CancelTrainingRequest(name="trainings/none")),
        client.training.GetTrainer(training_pb2.GetTrainerRequest(name="trainers/none")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
