"""How the agent is, for people: what `keeptune agent status` prints."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from keeptune.v1 import monitoring_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from keeptune.v1 import agent_pb2, deployment_pb2


def status_lines(status: agent_pb2.AgentStatus, zone: tzinfo | None = None) -> list[str]:
    """The host, then each model with the trouble that lasts; times are those of `zone`, or local.

    Trouble of a model that is not served any more does not last.
    """
    link = "connected" if status.control_plane_connected else status.control_plane_reason
    ready = "ready" if status.info.triton_ready else "not ready"
    if status.triton_starts > 1:
        ready += f", started {status.triton_starts} times"
    lines = [
        f"{status.host}: control plane {link}",
        f"  Triton {status.info.triton_version or '-'} {ready}; sampler {status.sampler}",
    ]
    for model in status.models:
        lines.append(f"  {model.serving or model.model} {_health(model)}")
        lines += [
            f"    {_trouble(each, zone)}"
            for each in status.open_signals
            if each.signal.model == model.model
        ]
    return lines


def _health(model: deployment_pb2.ServedModel) -> str:
    health = "healthy" if model.healthy else "NOT healthy"
    return f"{health}: {model.reason}" if model.reason else health


def _trouble(trouble: agent_pb2.OpenSignal, zone: tzinfo | None) -> str:
    signal = trouble.signal
    kind = monitoring_pb2.SignalKind.Name(signal.kind).removeprefix("SIGNAL_KIND_").lower()
    since = signal.onset_time if signal.HasField("onset_time") else signal.detect_time
    return f"{kind} since {_time(since, zone)}; {_request(trouble, zone)}"


def _request(trouble: agent_pb2.OpenSignal, zone: tzinfo | None) -> str:
    if not trouble.HasField("request_time"):
        return "no retune would mend it"
    if not trouble.answer:
        return "a retune is asked for, not answered yet"
    again = _time(trouble.request_time, zone)
    if trouble.refused:
        return f"retune refused, asked again at {again}: {trouble.answer}"
    return f"retune granted: {trouble.answer}; asked again at {again} if it lasts"


def _time(stamp: Timestamp, zone: tzinfo | None) -> str:
    return f"{stamp.ToDatetime(tzinfo=UTC).astimezone(zone):%H:%M:%S}"
