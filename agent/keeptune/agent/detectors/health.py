"""The operational detectors: errors and latency, from differences of Triton's counters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from keeptune.agent.detectors.base import Finding, Limits
from keeptune.agent.detectors.rate import RateTest

# Updates between false alarms while the error rate is exactly at its limit: at one a second, a day.
_RUN_LENGTH = 100_000
_CLEAR_REQUESTS = 200

BASELINE_SECONDS = 60.0
BASELINE_REQUESTS = 100
LATENCY_FACTOR = 5.0
# Of a millisecond, five times is the noise of a busy machine.
LATENCY_FLOOR_MS = 50.0
LATENCY_WINDOW_SECONDS = 2.0
_LATENCY_WINDOWS = 3
_MIN_WINDOW_REQUESTS = 10


class ErrorDetector:
    """Bets against "the share of failed requests is at most `max_error_rate`"."""

    def __init__(self, limits: Limits) -> None:
        self.limit = limits.max_error_rate
        self._test = RateTest(self.limit)
        self._recent: deque[tuple[int, int]] = deque()
        self.requests = 0
        self._alarm: Finding | None = None

    @property
    def level(self) -> float:
        return float(np.log10(max(self._test.statistic / _RUN_LENGTH, 1e-9)))

    def update(self, failures: int, requests: int, time: float) -> None:
        """`failures` of `requests` since the last update, at `time` (unix seconds)."""
        if requests <= 0:
            return
        self.requests += requests
        self._remember(failures, requests)
        rate = self._recent_rate()
        if self._alarm is not None:
            if rate <= self.limit and sum(n for _, n in self._recent) >= _CLEAR_REQUESTS:
                self._alarm = None
                self._test.reset()
            return
        self._test.update(failures, requests, time)
        if self._test.statistic >= _RUN_LENGTH and rate > self.limit:
            self._alarm = Finding(
                statistic=self._test.statistic,
                threshold=float(_RUN_LENGTH),
                samples=self.requests,
                samples_since_onset=sum(n for _, n in self._recent),
                onset=datetime.fromtimestamp(self._test.onset, UTC),
                detected=datetime.fromtimestamp(time, UTC),
                note=f"{rate:.1%} of recent requests failed; the limit is {self.limit:.1%}",
            )

    def finding(self) -> Finding | None:
        return self._alarm

    def _remember(self, failures: int, requests: int) -> None:
        self._recent.append((failures, requests))
        while sum(n for _, n in self._recent) - self._recent[0][1] >= _CLEAR_REQUESTS:
            self._recent.popleft()

    def _recent_rate(self) -> float:
        return sum(f for f, _ in self._recent) / max(sum(n for _, n in self._recent), 1)


@dataclass(frozen=True)
class Baseline:
    """What a version's mean latency was in the beginning, in milliseconds."""

    mean_ms: float


class LatencyDetector:
    """Mean time in the server over short windows; three in a row above the limit are too many.

    The limit is `max_latency`, or 5 times the baseline, and never less than 50 ms then. Without a
    given `baseline` the version's own first minute is it, and until then nothing is judged. A plain
    rule, with no promise about false alarms.
    """

    def __init__(self, limits: Limits, baseline: Baseline | None = None) -> None:
        self._max_ms = limits.max_latency * 1e3 if limits.max_latency is not None else None
        self.baseline = baseline
        self._first_time: float | None = None
        self._first = [0, 0.0]
        self._window_start: float | None = None
        self._window = [0, 0.0]
        self._means: deque[float] = deque(maxlen=_LATENCY_WINDOWS)
        self._above_since = 0.0
        self.requests = 0
        self._alarm: Finding | None = None

    @property
    def limit_ms(self) -> float | None:
        """None while it is not known yet."""
        if self._max_ms is not None:
            return self._max_ms
        if self.baseline is None:
            return None
        return max(LATENCY_FACTOR * self.baseline.mean_ms, LATENCY_FLOOR_MS)

    @property
    def level(self) -> float:
        limit = self.limit_ms
        if limit is None or not self._means:
            return -9.0
        return float(np.log10(max(self._means[-1] / limit, 1e-9)))

    def update(self, requests: int, total_ms: float, time: float) -> None:
        """`requests` took `total_ms` together since the last update, at `time` (unix seconds)."""
        self.requests += requests
        self._learn(requests, total_ms, time)
        if self._window_start is None:
            self._window_start = time
        self._window[0] += requests
        self._window[1] += total_ms
        if time - self._window_start < LATENCY_WINDOW_SECONDS:
            return
        started, (count, spent) = self._window_start, self._window
        self._window_start, self._window = time, [0, 0.0]
        if count >= _MIN_WINDOW_REQUESTS:
            self._judge(spent / count, started, time)

    def finding(self) -> Finding | None:
        return self._alarm

    def _learn(self, requests: int, total_ms: float, time: float) -> None:
        if self.baseline is not None or requests <= 0:
            return
        if self._first_time is None:
            self._first_time = time
        self._first[0] += requests
        self._first[1] += total_ms
        if time - self._first_time >= BASELINE_SECONDS and self._first[0] >= BASELINE_REQUESTS:
            self.baseline = Baseline(self._first[1] / self._first[0])

    def _judge(self, mean_ms: float, started: float, time: float) -> None:
        limit = self.limit_ms
        if limit is None:
            return
        if not self._means or self._means[-1] <= limit:
            self._above_since = started
        self._means.append(mean_ms)
        above = [mean > limit for mean in self._means]
        if len(above) == _LATENCY_WINDOWS and all(above) and self._alarm is None:
            self._alarm = Finding(
                statistic=mean_ms,
                threshold=limit,
                samples=self.requests,
                samples_since_onset=0,
                onset=datetime.fromtimestamp(self._above_since, UTC),
                detected=datetime.fromtimestamp(time, UTC),
                note=f"requests take {mean_ms:.0f} ms in the mean; the limit is {limit:.0f} ms",
            )
        elif not any(above):
            self._alarm = None
