"""The agent as a process, with a real Triton and the real deployment service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper

from keeptune.agent.triton import TritonClient
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime import logging
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, KeeptuneError, NotFound
from keeptune.v1 import agent_pb2, deployment_pb2, monitoring_pb2, retuning_pb2
from tests.fixtures.judged_models import build, classifier, nan_tail
from tests.fixtures.triton import RunningTriton, running_triton
from tests.integration.agent.digits import SIGNATURE, digits
from tests.integration.agent.host import Host, Traffic, keeptune_agent, running_agent
from tests.integration.agent.plane import Plane, free_address, running_plane

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]

WATCHED = monitoring_pb2.Monitoring(sampling_rate=1.0, capture=monitoring_pb2.Capture(enabled=True))
Start = Callable[..., Host]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    """Of its own, because an agent holds its repository."""
    with running_triton(tmp_path_factory.mktemp("agents-triton")) as server:
        yield server


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running_plane(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
async def client(server: RunningTriton) -> AsyncIterator[TritonClient]:
    """Takes the models of the test away at its end, when no agent runs any more."""
    async with server.client() as client:
        yield client
        updater = ModelUpdater(server.repository, client)
        for name in server.repository.names():
            await updater.remove_model(name.removesuffix("--challenger"))


@pytest.fixture
def start(
    tmp_path: Path, plane: Plane, server: RunningTriton, client: TritonClient
) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(**settings: object) -> Host:
            running = running_agent(tmp_path / "host", plane, server, free_address(), **settings)
            return stack.enter_context(running)

        yield start


async def serving(host: Host, model: str) -> deployment_pb2.ServedModel:
    status = await host.status()
    return next(each for each in status.models if each.model == f"models/{model}")


async def test_a_version_is_deployed_watched_and_its_drift_heard(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    made = digits()
    host = start()
    await plane.create_model("seen", WATCHED)
    version = await plane.create_version("seen", made.onnx, made.profile)
    with logging.bound(request_id="r1/rollout", retune="retunes/r1"):
        await plane.roll_out(version, "r1")
    rollout = await plane.rollout_ends("r1")
    assert rollout.state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED, rollout.reason
    status = await host.until(lambda s: s.models[0].healthy and s.models[0].statistics.version)
    assert status.control_plane_connected
    assert status.info.triton_ready
    assert (status.models[0].serving, status.models[0].standby) == (version, "")
    await asyncio.sleep(0.5)

    traffic = Traffic.of(client, host, "seen")
    for _ in range(6):
        answer, _ = await traffic.send(made.pool, made.labels, 100)
        # A few samples may still be on their way through the socket.
        assert answer.joined + answer.unmatched == 100
    await asyncio.sleep(0.5)
    served = await serving(host, "seen")
    # Nothing is lost uncounted; at this speed a few may not find room in the socket.
    assert served.statistics.sampled + served.statistics.dropped == 600
    assert served.statistics.outcomes >= 500
    assert served.statistics.recent_accuracy > 0.85
    assert served.statistics.drift_level < 0
    assert plane.retuning.asked == []

    cooldown = retuning_pb2.RequestRetuneResponse(
        decision=retuning_pb2.REQUEST_DECISION_COOLDOWN, reason="soon"
    )
    cooldown.retry_after.FromTimedelta(timedelta(seconds=3))
    plane.retuning.script = [cooldown]
    accuracy = 1.0
    for _ in range(6):
        _, accuracy = await traffic.send(made.drifted, made.labels, 25)
    assert accuracy < 0.8
    refused = (await host.until(lambda s: any(o.refused for o in s.open_signals))).open_signals
    assert [one.answer for one in refused if one.refused] == ["COOLDOWN: soon"]
    async with asyncio.timeout(10):
        while len(drift_requests(plane)) < 2:
            await asyncio.sleep(0.1)
    # The same request until it is granted, then none.
    await asyncio.sleep(1.5)
    first, second = drift_requests(plane)
    evidence = first.evidence[0]
    assert first.request_id == second.request_id == evidence.id
    assert evidence.version == version
    assert evidence.samples <= 600 + 60
    assert evidence.channels[0].effect > 0.3

    export = await until_exported(plane, "seen", 600)
    assert export.training_rows + export.recent_rows <= 750
    found = await plane.stub.GetHost(deployment_pb2.GetHostRequest(name="hosts/h1"))
    assert evidence.id in [one.id for one in found.recent_signals]
    assert (await host.status()).info.agent_rss_bytes < 120e6

    # What a rollout orders belongs, on the host too, to the retune that asked for it.
    done = [json.loads(line) for line in host.log.splitlines() if '"order.done"' in line]
    ids = {(line.get("request_id"), line.get("retune")) for line in done}
    assert ("r1/rollout", "retunes/r1") in ids

    watched = host.data_dir / "credentials"
    assert watched.stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInput):
        await host.call(
            "RecordOutcomes",
            agent_pb2.RecordOutcomesRequest(
                model="models/seen", outcomes=[agent_pb2.Outcome(request_id="x")]
            ),
        )
    with pytest.raises(NotFound):
        await host.call(
            "RecordOutcomes",
            agent_pb2.RecordOutcomesRequest(
                model="models/unknown", outcomes=[agent_pb2.Outcome(request_id="x", label="1")]
            ),
        )
    assert host.kill(signal.SIGTERM) == 0


def drift_requests(plane: Plane) -> list[retuning_pb2.RequestRetuneRequest]:
    drift = monitoring_pb2.SIGNAL_KIND_DRIFT
    return [one for one in plane.retuning.asked if one.evidence[0].kind == drift]


async def until_exported(plane: Plane, model: str, rows: int) -> deployment_pb2.CaptureExport:
    request = deployment_pb2.ExportCapturesRequest(model=f"models/{model}", min_rows=rows)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(FailedPrecondition):
                found: deployment_pb2.CaptureExport = await calling(
                    plane.stub.ExportCaptures(request)
                )
                return found
            await asyncio.sleep(0.3)


async def test_a_bad_version_goes_back_without_the_control_plane(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    made = digits()
    host = start()
    await plane.create_model("frail", WATCHED)
    good = await plane.create_version("frail", made.onnx, made.profile)
    await plane.roll_out(good, "good")
    assert (await plane.rollout_ends("good")).state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED

    # It fails on whatever is bright: zeros, the probe of what nobody has asked yet, pass.
    weights = np.zeros((64, 10), np.float32)
    bad = await plane.create_version("frail", fails_on_light(weights), made.profile)
    await plane.roll_out(bad, "bad", bake=60.0)
    async with asyncio.timeout(30):
        while (await plane.rollout("bad")).state != deployment_pb2.ROLLOUT_STATE_BAKING:
            await asyncio.sleep(0.1)
    assert (await serving(host, "frail")).serving == bad
    await plane.stop()
    for number in range(20):
        with contextlib.suppress(KeeptuneError):
            await client.infer("frail", {"image": made.pool[:1]}, request_id=f"f{number}")
        await asyncio.sleep(0.1)
    status = await host.until(lambda s: s.models[0].serving == good, seconds=15)
    assert not status.control_plane_connected
    assert "went back from version 2" in status.models[0].reason
    answer = await client.infer("frail", {"image": made.pool[:1]})
    assert np.isfinite(answer["probabilities"]).all()
    await plane.start()
    rollout = await plane.rollout_ends("bad")
    assert rollout.state == deployment_pb2.ROLLOUT_STATE_ROLLED_BACK
    assert "went back" in rollout.reason


def fails_on_light(weights: np.ndarray) -> bytes:
    """A classifier whose Gather runs out of its table when a pixel of the picture is bright."""
    return fails_far_from(0.0, weights)


def fails_in_the_dark() -> bytes:
    """One whose Gather does so for a picture without any light."""
    return fails_far_from(1.0, np.zeros((64, 10), np.float32))


def fails_far_from(brightness: float, weights: np.ndarray) -> bytes:
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("ReduceMax", ["flat"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["brightest", "fine"], ["away"]),
        helper.make_node("Abs", ["away"], ["distance"]),
        helper.make_node("Mul", ["distance", "nine"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["found"]),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
        helper.make_node("Add", ["logits", "found"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["probabilities"], axis=1),
    ]
    return build(
        nodes,
        inputs={"image": [1, 8, 8]},
        outputs={"probabilities": [10]},
        initializers={
            "weights": weights,
            "fine": np.array(brightness, np.float32),
            "nine": np.array(9.0, np.float32),
            "table": np.zeros(2, np.float32),
        },
        signature=SIGNATURE,
    )


async def test_a_version_that_answers_unsoundly_never_serves(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    weights = np.array([[-4.0, 4.0], [0.0, 0.0]], np.float32)
    start()
    await plane.create_model("picky", WATCHED)
    good = await plane.create_version("picky", classifier(weights, ["left", "right"]))
    await plane.roll_out(good, "good")
    assert (await plane.rollout_ends("good")).state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED
    await client.infer("picky", {"features": np.array([[-1.0, 0.0]], np.float32)}, request_id="q")
    await asyncio.sleep(1.5)
    unsound = await plane.create_version(
        "picky", classifier(weights, ["left", "right"], tail=nan_tail())
    )
    await plane.roll_out(unsound, "unsound")
    rollout = await plane.rollout_ends("unsound")
    assert rollout.state == deployment_pb2.ROLLOUT_STATE_ROLLED_BACK
    assert "not finite" in rollout.reason
    answer = await client.infer("picky", {"features": np.array([[-1.0, 0.0]], np.float32)})
    assert answer["probabilities"][0, 0] > 0.9


async def test_outcomes_told_again_are_answered_as_before(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    made = digits()
    host = start()
    await plane.create_model("told", WATCHED)
    version = await plane.create_version("told", made.onnx, made.profile)
    await plane.roll_out(version, "told")
    assert (await plane.rollout_ends("told")).state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED
    await asyncio.sleep(0.5)
    await client.infer("told", {"image": made.pool[:1]}, request_id="told-1")
    request = agent_pb2.RecordOutcomesRequest(
        request_id="once",
        model="models/told",
        outcomes=[agent_pb2.Outcome(request_id="told-1", label=str(made.labels[0]))],
    )
    first = await host.call("RecordOutcomes", request)
    assert first.joined + first.unmatched == 1
    assert await host.call("RecordOutcomes", request) == first
    request.outcomes[0].label = "another"
    with pytest.raises(InvalidInput, match="used for another request"):
        await host.call("RecordOutcomes", request)
    request.request_id = "twice"
    assert (await host.call("RecordOutcomes", request)).joined == 0


async def test_a_version_that_triton_refuses_to_load_changes_nothing(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    made = digits()
    host = start()
    await plane.create_model("stubborn", WATCHED)
    good = await plane.create_version("stubborn", made.onnx, made.profile)
    await plane.roll_out(good, "s-good")
    assert (await plane.rollout_ends("s-good")).state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED
    # Sound to the registry, which runs nothing; a model of ours is run on zeros as it is loaded.
    bad = await plane.create_version("stubborn", fails_in_the_dark())
    await plane.roll_out(bad, "s-bad")
    rollout = await plane.rollout_ends("s-bad")
    assert rollout.state == deployment_pb2.ROLLOUT_STATE_ROLLED_BACK
    assert "Gather" in rollout.reason
    assert rollout.next_step
    served = await serving(host, "stubborn")
    assert (served.serving, served.standby, served.staged) == (good, "", "")
    ready = [(e.model, e.version) for e in await client.index() if e.ready]
    assert [each for each in ready if each[0].startswith("stubborn")] == [("stubborn", 1)]
    answer = await client.infer("stubborn", {"image": made.pool[:1]})
    assert np.isfinite(answer["probabilities"]).all()


async def test_a_killed_triton_or_model_process_is_no_verdict_on_a_version(
    plane: Plane, start: Start, client: TritonClient, server: RunningTriton
) -> None:
    made = digits()
    host = start()
    await plane.create_model("steady", WATCHED)
    version = await plane.create_version("steady", made.onnx, made.profile)
    await plane.roll_out(version, "r", bake=1.0)
    assert (await plane.rollout_ends("r")).state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED
    traffic = Traffic.of(client, host, "steady")
    await traffic.send(made.pool, made.labels, 20)
    before = (await host.until(lambda s: s.models[0].healthy)).models[0].statistics.sampled

    starts = (await host.status()).triton_starts
    os.kill(server.endpoint.pid, signal.SIGKILL)
    # The agent notices, also where Triton is back between two of its looks.
    await host.until(lambda s: s.triton_starts > starts)
    status = await host.until(lambda s: s.info.triton_ready and s.models[0].healthy)
    assert "triton.restarted" in host.log
    assert status.models[0].serving == version
    assert "went back" not in status.models[0].reason
    await traffic.send(made.pool, made.labels, 20)
    await host.until(lambda s: s.models[0].statistics.sampled > before)

    for process in psutil.Process(server.endpoint.pid).children(recursive=True):
        if "steady" in " ".join(process.cmdline()):
            process.kill()
    # Triton still says that the model is ready; only an inference tells, and a load mends.
    await host.until(lambda s: not s.models[0].healthy)
    await host.until(lambda s: s.models[0].healthy)
    assert (await serving(host, "steady")).serving == version
    await traffic.send(made.pool, made.labels, 5)


@pytest.mark.timeout(300)
async def test_kills_at_any_moment_of_a_rollout_change_nothing(
    plane: Plane, start: Start, client: TritonClient
) -> None:
    rng = random.Random(5)
    made = digits()
    host = start()
    await plane.create_model("killed", WATCHED)
    for number in (1, 2):
        version = await plane.create_version("killed", made.onnx, made.profile)
        await plane.roll_out(version, f"k{number}", bake=2.0)
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0.2, 2.5))
            host.kill()
            host.start()
        rollout = await plane.rollout_ends(f"k{number}", 120)
        assert rollout.state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED, rollout.reason
    served = await serving(host, "killed")
    assert (served.serving, served.standby, served.staged) == (version, "", "")
    index = await client.index()
    ready = [(e.model, e.version) for e in index if e.ready and e.model.startswith("killed")]
    assert ready == [("killed", 2)]


async def test_a_host_joins_and_takes_only_what_its_registry_signed(
    plane: Plane, start: Start, tmp_path: Path
) -> None:
    data_dir = tmp_path / "host" / "agent"
    joined = await asyncio.to_thread(
        subprocess.run,
        keeptune_agent(
            "join",
            *("--host", "h1", "--data-dir", str(data_dir), "--deployment", plane.address),
            *("--join-token-file", str(plane.join_token_file)),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert joined.returncode == 0, joined.stderr
    assert (data_dir / "credential.json").stat().st_mode & 0o077 == 0
    host = start(tokens_file=None)
    made = digits()
    await plane.create_model("signed", WATCHED)
    version = await plane.create_version("signed", made.onnx, made.profile)
    await plane.roll_out(version, "r")
    rollout = await plane.rollout_ends("r")
    assert rollout.state == deployment_pb2.ROLLOUT_STATE_SUCCEEDED, rollout.reason
    asked = await asyncio.to_thread(
        subprocess.run,
        keeptune_agent("status", "--data-dir", str(data_dir), "--listen", host.listen),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "control plane connected" in asked.stdout
    assert f"{version} healthy" in asked.stdout
