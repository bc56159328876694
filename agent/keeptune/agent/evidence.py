"""A detector's finding as a Signal message, with a sentence that a person can read."""

from __future__ import annotations

import math

from keeptune.agent.detectors.base import ChannelShift, Finding
from keeptune.runtime.convert import to_timestamp
from keeptune.v1 import monitoring_pb2

_NAMES = {
    monitoring_pb2.SIGNAL_KIND_DRIFT: "drift",
    monitoring_pb2.SIGNAL_KIND_ACCURACY: "accuracy",
    monitoring_pb2.SIGNAL_KIND_ERRORS: "errors",
    monitoring_pb2.SIGNAL_KIND_LATENCY: "latency",
}


def signal_of(
    host: str,
    model: str,
    version: int,
    kind: monitoring_pb2.SignalKind.ValueType,
    finding: Finding,
) -> monitoring_pb2.Signal:
    """`host` and `model` are ids; the signal's id is unique on the host."""
    moment = int(finding.detected.timestamp() * 1000)
    return monitoring_pb2.Signal(
        id=f"{host[:40]}-{model[:48]}-v{version}-{_NAMES[kind]}-{moment}",
        kind=kind,
        host=f"hosts/{host}",
        model=f"models/{model}",
        version=f"models/{model}/versions/{version}",
        detect_time=to_timestamp(finding.detected),
        onset_time=to_timestamp(finding.onset),
        statistic=finding.statistic,
        threshold=finding.threshold,
        samples=finding.samples,
        samples_since_onset=finding.samples_since_onset,
        channels=[_channel(shift) for shift in finding.shifts],
        summary=_summary(model, version, kind, finding),
    )


def _channel(shift: ChannelShift) -> monitoring_pb2.ChannelEvidence:
    return monitoring_pb2.ChannelEvidence(
        channel=shift.channel,
        effect=shift.effect,
        reference_mean=_finite(shift.reference_mean),
        current_mean=_finite(shift.current_mean),
        edges=shift.edges,
        reference=shift.reference,
        current=shift.current,
    )


def _summary(
    model: str, version: int, kind: monitoring_pb2.SignalKind.ValueType, finding: Finding
) -> str:
    start = f"{_NAMES[kind]} on {model} version {version}: "
    if finding.note:
        return start + finding.note
    moved = [_words(shift) for shift in finding.shifts[:3] if shift.effect > 0]
    return (
        start
        + ("; ".join(moved) or "its traffic changed")
        + f"; since {finding.onset:%H:%M:%S} UTC, in {finding.samples_since_onset} samples"
    )


def _words(shift: ChannelShift) -> str:
    text = f"{shift.channel} moved by {shift.effect:.2f}"
    if math.isfinite(shift.reference_mean) and math.isfinite(shift.current_mean):
        text += f" (mean {shift.reference_mean:.3g} to {shift.current_mean:.3g})"
    return text


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
