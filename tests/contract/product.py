"""The running product that the contract tests talk to: a control plane and an agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import yaml

from keeptune.runtime.artifacts import ArtifactStore, to_proto
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import open_channel
from keeptune.v1 import (
    agent_pb2_grpc,
    deployment_pb2_grpc,
    evaluation_pb2_grpc,
    retuning_pb2_grpc,
    search_pb2_grpc,
    training_pb2_grpc,
    types_pb2,
)
from tests.fixtures.served import Served, free_port, serve

HOST = "h1"
# The first test waits for the loop to go round.
ONE_PRODUCT = (pytest.mark.xdist_group("contract"), pytest.mark.timeout(300))

_STUBS = {
    "SearchService": search_pb2_grpc.SearchServiceStub,
    "TrainingService": training_pb2_grpc.TrainingServiceStub,
    "EvaluationService": evaluation_pb2_grpc.EvaluationServiceStub,
    "DeploymentService": deployment_pb2_grpc.DeploymentServiceStub,
    "AgentLink": deployment_pb2_grpc.AgentLinkStub,
    "RetuningService": retuning_pb2_grpc.RetuningServiceStub,
    "AgentService": agent_pb2_grpc.AgentServiceStub,
}


@dataclass(frozen=True)
class Plane:
    """Every service in one `keeptune dev`; `folder` keeps what tests make beside it."""

    folder: Path
    served: Served
    metrics: str

    @property
    def address(self) -> str:
        return self.served.address

    @property
    def join_token(self) -> str:
        return (self.served.data_dir / "join-token").read_text().strip()

    @property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore((self.served.data_dir / "artifacts").as_uri())

    def put(self, content: bytes, media_type: str = "", filename: str = "") -> types_pb2.Artifact:
        """Stores an artifact as a training would."""
        stored = self.artifacts.put_bytes_sync(content, media_type=media_type, filename=filename)
        return to_proto(stored)

    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        lines = self.served.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@dataclass(frozen=True)
class Agent:
    """`keeptune agent run` on a host without a Triton yet."""

    folder: Path
    address: str


@dataclass(frozen=True)
class Product:
    plane: Plane
    agent: Agent

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        credentials = ClientCredentials.from_file(self.plane.served.tokens_file)
        local = ClientCredentials.from_file(self.agent.folder / "data" / "credentials")
        async with (
            open_channel(self.plane.address, credentials=credentials) as plane,
            open_channel(self.agent.address, credentials=local) as agent,
        ):
            yield Client(plane, agent)


@dataclass(frozen=True)
class Client:
    plane: grpc.aio.Channel
    agent: grpc.aio.Channel

    def method(self, name: str) -> Any:
        """The callable of `SearchService.GetStudy`, wherever that is served."""
        service, _, method = name.partition(".")
        channel = self.agent if service == "AgentService" else self.plane
        stub: Any = _STUBS[service]
        return getattr(stub(channel), method)


@contextmanager
def running_plane(folder: Path, data_dir: Path | None = None) -> Iterator[Plane]:
    folder.mkdir(parents=True, exist_ok=True)
    metrics = f"127.0.0.1:{free_port()}"
    config = folder / "keeptune.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "platform": {"log_format": "json", "log_level": "debug"},
                "server": {"metrics_listen": metrics, "drain_seconds": 1.0},
                "training": {"workers": 1, "poll_seconds": 0.1},
                "evaluation": {"latency_seconds": 0.05, "poll_seconds": 0.2},
                "deployment": {"reconcile_seconds": 0.3, "max_upload_bytes": 1 << 20},
                "retuning": {"poll_seconds": 0.2},
            }
        )
    )
    served = serve(["dev", "--config", str(config)], data_dir or folder / "data")
    try:
        yield Plane(folder, served, metrics)
    finally:
        served.stop()


@contextmanager
def running_agent(folder: Path, plane: Plane) -> Iterator[Agent]:
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = folder / "agent.yaml"
    settings = {
        "host": HOST,
        "data_dir": str(folder / "data"),
        "deployment": plane.address,
        "tokens_file": str(plane.served.tokens_file),
        "model_repository": str(folder / "models"),
        "triton": {"grpc": "127.0.0.1:1", "sampling_dir": str(folder / "sampling")},
        "server": {"listen": address, "drain_seconds": 1.0},
        "log_format": "json",
    }
    config.write_text(yaml.safe_dump({"agent": settings}))
    log = folder / "agent.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "keeptune.cli.main", "agent", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    try:
        give_up = time.monotonic() + 30
        while '"serving"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"the agent did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield Agent(folder, address)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
