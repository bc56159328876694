"""The metrics there are: for which task, which way is better, where they are measured."""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.v1 import types_pb2

CLASSIFICATION = types_pb2.TASK_CLASSIFICATION
REGRESSION = types_pb2.TASK_REGRESSION


@dataclass(frozen=True)
class Metric:
    """`paired` metrics are means over rows, or made of one, so a paired test speaks for them.

    `per_row` is false for what is measured once a model and not on each dataset.
    """

    name: str
    higher_is_better: bool
    tasks: frozenset[int]
    paired: bool = False
    per_row: bool = True


_BOTH = frozenset({CLASSIFICATION, REGRESSION})
_CLASSES = frozenset({CLASSIFICATION})
_VALUES = frozenset({REGRESSION})

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, _CLASSES, paired=True),
        Metric("precision", True, _CLASSES),
        Metric("recall", True, _CLASSES),
        Metric("f1", True, _CLASSES),
        Metric("log_loss", False, _CLASSES, paired=True),
        Metric("calibration_error", False, _CLASSES),
        Metric("rmse", False, _VALUES, paired=True),
        Metric("mae", False, _VALUES, paired=True),
        Metric("r2", True, _VALUES),
        Metric("latency_p50_ms", False, _BOTH, per_row=False),
        Metric("latency_p99_ms", False, _BOTH, per_row=False),
        Metric("size_bytes", False, _BOTH, per_row=False),
    )
}


def metrics_of(task: int) -> dict[str, Metric]:
    """By name, those that a model of this task has."""
    return {name: metric for name, metric in METRICS.items() if task in metric.tasks}
