"""What `keeptune agent status` says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keeptune.agent.status import status_lines
from keeptune.runtime.convert import to_timestamp
from keeptune.v1 import agent_pb2, deployment_pb2, monitoring_pb2

AT = to_timestamp(datetime(2026, 1, 1, 18, 27, 21, tzinfo=UTC))
AGAIN = to_timestamp(datetime(2026, 1, 1, 18, 36, 13, tzinfo=UTC))
DRIFT = monitoring_pb2.Signal(
    kind=monitoring_pb2.SIGNAL_KIND_DRIFT, model="models/digits", onset_time=AT
)
SLOW = monitoring_pb2.Signal(
    kind=monitoring_pb2.SIGNAL_KIND_LATENCY, model="models/digits", detect_time=AT
)


def test_a_triton_that_keeps_ending_shows() -> None:
    status = agent_pb2.AgentStatus(host="hosts/h", control_plane_connected=True, sampler="shim")
    status.info.triton_ready = True
    for starts, said in ((0, ""), (1, ""), (3, ", started 3 times")):
        status.triton_starts = starts
        assert status_lines(status)[1] == f"  Triton - ready{said}; sampler shim"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            agent_pb2.OpenSignal(
                signal=DRIFT, request_time=AGAIN, refused=True, answer="COOLDOWN: 9 s ago"
            ),
            "drift since 18:27:21; retune refused, asked again at 18:36:13: COOLDOWN: 9 s ago",
        ),
        (
            agent_pb2.OpenSignal(signal=DRIFT, request_time=AGAIN, answer="STARTED r"),
            "drift since 18:27:21; retune granted: STARTED r; asked again at 18:36:13 if it lasts",
        ),
        (
            agent_pb2.OpenSignal(signal=DRIFT, request_time=AT),
            "drift since 18:27:21; a retune is asked for, not answered yet",
        ),
        (
            agent_pb2.OpenSignal(signal=SLOW),
            "latency since 18:27:21; no retune would mend it",
        ),
    ],
    ids=["refused", "granted", "asked", "none"],
)
def test_trouble_stands_below_its_model(trouble: agent_pb2.OpenSignal, said: str) -> None:
    status = agent_pb2.AgentStatus(
        host="hosts/h",
        control_plane_connected=True,
        sampler="shim",
        models=[
            deployment_pb2.ServedModel(model="models/other", healthy=True),
            deployment_pb2.ServedModel(
                model="models/digits", serving="models/digits/versions/1", healthy=True
            ),
        ],
        open_signals=[trouble],
    )
    assert status_lines(status, UTC) == [
        "hosts/h: control plane connected",
        "  Triton - not ready; sampler shim",
        "  models/other healthy",
        "  models/digits/versions/1 healthy",
        f"    {said}",
    ]
