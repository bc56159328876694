"""The evaluation service as its callers know it, for the tests beside it."""

from __future__ import annotations

import asyncio
import io
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from keeptune.evaluation.config import EvaluationSettings
from keeptune.evaluation.program import build
from keeptune.runtime.artifacts import ArtifactStore, to_proto
from keeptune.runtime.auth import ClientCredentials, Role, Tokens
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.clock import SystemClock
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.server import Context, serve
from keeptune.v1 import evaluation_pb2 as pb
from keeptune.v1 import evaluation_pb2_grpc, types_pb2

CLASSES = ["left", "right"]
RIGHT_WAY = np.array([[-4.0, 4.0], [0.0, 0.0]], np.float32)
NOISY = np.array([[-2.0, 2.0], [-3.0, 3.0]], np.float32)
ENDED = (pb.EVALUATION_STATE_SUCCEEDED, pb.EVALUATION_STATE_FAILED)
SERVE = "from keeptune.composition.serve import serve; serve()"


@dataclass
class Service:
    """A running service, its stub, and the artifact store it shares with its callers."""

    stub: Any
    artifacts: ArtifactStore
    folder: Path

    def model(self, content: bytes) -> types_pb2.Artifact:
        return to_proto(
            self.artifacts.put_bytes_sync(
                content, media_type="application/onnx", filename="model.onnx"
            )
        )

    def data(self, name: str = "held-out", rows: int = 200, **arrays: Any) -> types_pb2.Dataset:
        """Rows whose first feature tells the label, as an artifact; more arrays are slices."""
        x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
        slices = [key for key in arrays if key not in ("x", "y")]
        content = io.BytesIO()
        np.savez(content, **{"x": x, "y": np.where(x[:, 0] > 0, "right", "left"), **arrays})
        artifact = self.artifacts.put_bytes_sync(
            content.getvalue(), media_type="application/x-npz", filename=f"{name}.npz"
        )
        return types_pb2.Dataset(artifact=to_proto(artifact), slice_columns=slices)

    async def create(
        self, evaluation: pb.Evaluation, evaluation_id: str = "", request_id: str = ""
    ) -> pb.Evaluation:
        request = pb.CreateEvaluationRequest(
            evaluation=evaluation, evaluation_id=evaluation_id, request_id=request_id
        )
        created: pb.Evaluation = await calling(self.stub.CreateEvaluation(request))
        return created

    async def get(self, name: str) -> pb.Evaluation:
        found: pb.Evaluation = await calling(
            self.stub.GetEvaluation(pb.GetEvaluationRequest(name=name))
        )
        return found

    async def ended(self, name: str, seconds: float = 90) -> pb.Evaluation:
        async with asyncio.timeout(seconds):
            while (found := await self.get(name)).state not in ENDED:
                await asyncio.sleep(0.1)
        return found

    async def judged(self, evaluation: pb.Evaluation) -> pb.Evaluation:
        return await self.ended((await self.create(evaluation)).name)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Service]:
    """The service in this process, behind a real server."""
    tokens = Tokens({"secret": Role.OPERATOR})
    artifacts = ArtifactStore((folder / "artifacts").as_uri())
    context = Context(
        clock=SystemClock(),
        data_dir=folder,
        artifacts=artifacts,
        open_channel=_no_peers,
        rng=random.Random(0),
    )
    settings = {"latency_seconds": 0.0, "poll_seconds": 0.1, **settings}
    program = await build(EvaluationSettings(**settings), context)
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = ServerSettings(listen="127.0.0.1:0", drain_seconds=1.0)
    task = asyncio.create_task(
        serve([program], server, tokens=tokens, ready=address.set_result, stop=stop)
    )
    await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    channel = open_channel(address.result(), credentials=ClientCredentials("secret"))
    try:
        yield Service(evaluation_pb2_grpc.EvaluationServiceStub(channel), artifacts, folder)
    finally:
        await channel.close()
        stop.set()
        await task


def _no_peers(name: str) -> grpc.aio.Channel:
    raise AssertionError(f"evaluation calls nobody, least of all {name}")


class ServiceProcess:
    """`keeptune serve evaluation` in a process of its own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = (folder / "service.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Service:
        started = self._log.tell()
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", SERVE, "evaluation",
                "--listen", "127.0.0.1:0", "--data-dir", str(self.folder),
            ],
            stderr=self._log,
        )  # fmt: skip
        address = await asyncio.to_thread(self._address, started)
        credentials = ClientCredentials.from_file(self.folder / "credentials")
        channel = open_channel(address, credentials=credentials)
        return Service(
            evaluation_pb2_grpc.EvaluationServiceStub(channel),
            ArtifactStore((self.folder / "artifacts").as_uri()),
            self.folder,
        )

    def _address(self, started: int) -> str:
        import time

        assert self.process is not None
        for _ in range(600):
            with (self.folder / "service.log").open("rb") as log:
                log.seek(started)
                text = log.read().decode()
            for line in text.splitlines():
                if "keeptune serves evaluation on " in line:
                    return line.rpartition(" ")[2]
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError("the service did not start")

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        self.kill()
        self._log.close()
