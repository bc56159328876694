"""How long one call takes: percentiles of warmed, interleaved runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keeptune.evaluation.model import LatencyResult

_WARM_UP = 20
_MIN_RUNS = 30
_MAX_RUNS = 2000


def measure(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float,
    now_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[list[float]]:
    """Milliseconds of each run of each call, as many runs as fit into `seconds` (30 to 2000).

    The calls take turns run by run, so that what else the machine does hits them alike and a
    ratio of theirs means something.
    """
    for call in calls:
        for _ in range(_WARM_UP):
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = now_ns() + int(seconds * 1e9)
    while calls and len(times[0]) < _MAX_RUNS and (len(times[0]) < _MIN_RUNS or now_ns() < end):
        for call, spent in zip(calls, times, strict=True):
            start = now_ns()
            call()
            spent.append((now_ns() - start) / 1e6)
    return times


def summarize(times: Sequence[float], *, batch_size: int, size_bytes: int) -> LatencyResult:
    """Median and 99th percentile of the runs (milliseconds)."""
    p50, p99 = np.quantile(np.asarray(times), (0.5, 0.99))
    return LatencyResult(float(p50), float(p99), batch_size, len(times), size_bytes)


def batch(inputs: Mapping[str, NDArray[np.generic]], size: int) -> dict[str, NDArray[np.generic]]:
    """`size` of the rows, over and over if there are fewer; arrays have the rows first."""
    return {
        name: np.ascontiguousarray(np.resize(values, (size, *values.shape[1:])))
        for name, values in inputs.items()
    }
