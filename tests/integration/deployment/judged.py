"""Models that the real evaluation service has judged, once for all tests of a worker."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keeptune.runtime.artifacts import Artifact, ArtifactStore, from_proto, to_proto
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import open_sync_channel
from keeptune.v1 import evaluation_pb2 as pb
from keeptune.v1 import evaluation_pb2_grpc, types_pb2
from tests.fixtures.judged_models import classifier

CLASSES = ["left", "right"]
ENDED = (pb.EVALUATION_STATE_SUCCEEDED, pb.EVALUATION_STATE_FAILED)


@dataclass(frozen=True)
class Judged:
    """An artifact, the evaluation that judged it, and the profile that came of it."""

    onnx: Artifact
    evaluation: str
    profile: Artifact


@dataclass(frozen=True)
class Evaluations:
    """A running evaluation service and what it has judged; `bad` did not pass."""

    address: str
    credentials: ClientCredentials
    artifacts: ArtifactStore
    artifacts_url: str
    folder: Path
    good: tuple[Judged, Judged]
    bad: Judged


class EvaluationProcess:
    """`keeptune serve evaluation` on a free port."""

    def __init__(self, folder: Path, artifacts_url: str) -> None:
        log = folder / "evaluation.log"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from keeptune.composition.serve import serve; serve()",
                "evaluation",
                "--listen=127.0.0.1:0",
                f"--data-dir={folder}",
            ],
            stderr=log.open("wb"),
            env={
                "PATH": "/usr/bin:/bin",
                "OMP_NUM_THREADS": "1",
                "KEEPTUNE_PLATFORM__ARTIFACTS": artifacts_url,
                "KEEPTUNE_EVALUATION__LATENCY_SECONDS": "0",
            },
        )
        self.address = wait_for_address(self._process, log)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def wait_for_address(process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> str:
    """Where a process started by `keeptune serve` listens, by its own words."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = re.search(r"serves \w+ on (\S+)", log.read_text())
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def judge(folder: Path, process: EvaluationProcess, artifacts_url: str) -> Evaluations:
    credentials = ClientCredentials.from_file(folder / "credentials")
    store = ArtifactStore(artifacts_url)
    x = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    content = io.BytesIO()
    np.savez(content, x=x, y=np.where(x[:, 0] > 0, "right", "left"))
    data = types_pb2.Dataset(
        artifact=to_proto(store.put_bytes_sync(content.getvalue(), media_type="application/x-npz"))
    )
    with open_sync_channel(process.address, credentials=credentials) as channel:
        stub = evaluation_pb2_grpc.EvaluationServiceStub(channel)
        names = {}
        for name, strength in (("good-1", 4.0), ("good-2", 6.0), ("bad", -4.0)):
            weights = np.array([[-strength, strength], [0.0, 0.0]], np.float32)
            onnx = store.put_bytes_sync(
                classifier(weights, CLASSES), media_type="application/onnx", filename="m.onnx"
            )
            evaluation = pb.Evaluation(
                candidate=to_proto(onnx),
                datasets=[data],
                gate=pb.Gate(rules=[pb.GateRule(metric="accuracy", min=0.9)]),
            )
            stub.CreateEvaluation(
                pb.CreateEvaluationRequest(evaluation_id=name, evaluation=evaluation)
            )
            names[name] = onnx
        judged = {name: _await(stub, name, onnx) for name, onnx in names.items()}
    return Evaluations(
        process.address,
        credentials,
        store,
        artifacts_url,
        folder,
        (judged["good-1"], judged["good-2"]),
        judged["bad"],
    )


def _await(stub: evaluation_pb2_grpc.EvaluationServiceStub, name: str, onnx: Artifact) -> Judged:
    request = pb.GetEvaluationRequest(name=f"evaluations/{name}")
    deadline = time.monotonic() + 90
    while (found := stub.GetEvaluation(request)).state not in ENDED:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert found.state == pb.EVALUATION_STATE_SUCCEEDED, found.reason
    return Judged(onnx, found.name, from_proto(found.reference_profile))
