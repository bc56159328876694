"""How a model is watched: the Monitoring message with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass, field

from keeptune.agent.detectors.base import Limits
from keeptune.agent.sampling import MAX_RATE
from keeptune.v1 import monitoring_pb2

_DEFAULT_RATE = 0.1
_DEFAULT_CAPTURE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Watch:
    """One in `sample_every` requests is sampled; 0 = none."""

    sample_every: int = round(1 / _DEFAULT_RATE)
    limits: Limits = field(default_factory=Limits)
    capture: bool = False
    capture_bytes: int = _DEFAULT_CAPTURE_BYTES

    @property
    def sampling_rate(self) -> float:
        return 1 / self.sample_every if self.sample_every else 0.0


def watch_of(monitoring: monitoring_pb2.Monitoring) -> Watch:
    default = Limits()
    rate = monitoring.sampling_rate if monitoring.HasField("sampling_rate") else _DEFAULT_RATE
    health = monitoring.health
    return Watch(
        sample_every=min(round(1 / rate), MAX_RATE) if rate > 0 else 0,
        limits=Limits(
            average_run_length=monitoring.drift.average_run_length or default.average_run_length,
            min_effect=monitoring.drift.min_effect or default.min_effect,
            max_error_rate=(
                health.max_error_rate
                if health.HasField("max_error_rate")
                else default.max_error_rate
            ),
            max_latency=(
                health.max_latency.ToTimedelta().total_seconds()
                if health.HasField("max_latency")
                else None
            ),
            max_accuracy_drop=health.max_accuracy_drop or default.max_accuracy_drop,
        ),
        capture=monitoring.capture.enabled,
        capture_bytes=monitoring.capture.max_bytes or _DEFAULT_CAPTURE_BYTES,
    )
