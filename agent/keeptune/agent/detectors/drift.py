"""The drift detector: do live requests and answers still look as they did when all was well?

Each row's value in each channel gets a conformal p-value: its randomised rank among the rows
before it. While rows are exchangeable with those, p-values are uniform, exactly, however few rows
there are; `betting` bets against that.

The traffic of a host is never quite the evaluation data: a host has its own customers, and often
far fewer distinct inputs than requests. So the first BURN_IN live rows are tested against the
reference and join it; when they differ from it as a whole by less than the smallest effect worth
an alarm, they take its place, and what the bets won from the small difference is taken away. From
then on drift means: away from what this host served while it was calm. When they differ by more,
the reference stays and the bets go on.

An alarm needs both: the promised run length (evidence), and after that `min_effect` in some channel
of fresh rows (relevance). A smaller shift is counted, absorbed, and the watch goes on. After an
alarm nothing is absorbed; it ends when recent rows look as before.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from keeptune.agent.detectors.base import ChannelShift, Finding, Limits
from keeptune.agent.detectors.betting import Bank
from keeptune.agent.detectors.effect import histograms, regroup, total_variation
from keeptune.agent.detectors.reference import UNUSABLE, Reference
from keeptune.runtime.channels import Channels

T = TypeVar("T", bound=np.generic)

BURN_IN = 400
WINDOW = 512
FRESH_ROWS = 16
# Standard deviations by which an effect must be past the limit.
_SURE = 3.0
_TO_CLEAR = 256
_SHOWN_CHANNELS = 8

_ARRAYS = ("counts", "sums", "recent_bins", "recent_numbers", "recent_times")
_NUMBERS = (
    "samples", "unusable", "crossed", "crossed_statistic", "small_shifts",
    "onset", "onset_time", "alarm_step", "alarm_time",
)  # fmt: skip


class Phase(enum.Enum):
    BURN_IN = "burn-in"
    CALM = "calm"
    ALARM = "alarm"


class DriftDetector:
    """Watches one version on one host. Not thread-safe."""

    def __init__(self, reference: Reference, limits: Limits, rng: np.random.Generator) -> None:
        channels = len(reference.names)
        self.reference = reference
        self.limits = limits
        self._rng = rng
        self._rows = np.arange(channels)
        self._ranks = np.arange(reference.counts.shape[1])
        self.bank = Bank(channels)
        self.phase = Phase.BURN_IN
        self.counts = reference.counts.copy()
        self.samples = 0
        self.onset = 0
        self.onset_time = 0.0
        self.alarm_step = 0
        self.alarm_time = 0.0
        # The step at which the evidence was enough; 0 = it is not. Whether the shift is large
        # enough is then judged on later rows alone: those that crossed were chosen by their luck.
        self.crossed = 0
        self.crossed_statistic = 0.0
        self.small_shifts = 0
        self.unusable = 0
        self.sums = np.zeros((2, channels))
        self.recent_bins = np.full((WINDOW, channels), UNUSABLE, dtype=np.int16)
        self.recent_numbers = np.full((WINDOW, channels), np.nan, dtype=np.float32)
        self.recent_times = np.zeros(WINDOW)

    @property
    def level(self) -> float:
        """log10 of the statistic over its threshold: 0 = alarm; -9 at the least."""
        statistic = self.bank.statistic() / self.limits.average_run_length
        return float(np.log10(max(statistic, 1e-9)))

    def update(self, values: Channels, times: NDArray[np.float64]) -> None:
        """Rows in the order they were served: channels of [rows] each, unix seconds [rows]."""
        bins = self.reference.bins(values, len(times))
        numbers = self.reference.numbers(values, len(times))
        for row in range(len(times)):
            self._step(bins[row], numbers[row], float(times[row]))

    def finding(self) -> Finding | None:
        """What is wrong now; None while all is well."""
        return self._finding() if self.phase is Phase.ALARM else None

    def save(self) -> dict[str, NDArray[np.generic]]:
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        bank = {f"bank.{name}": getattr(self.bank, name) for name in Bank.ARRAYS}
        numbers = np.array([getattr(self, name) for name in _NUMBERS], dtype=np.float64)
        return {**arrays, **bank, "numbers": numbers, "phase": np.array(self.phase.value)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        mine = self.save()
        for name, array in mine.items():
            if name != "phase" and (name not in state or state[name].shape != array.shape):
                raise ValueError(f"the saved state's {name!r} is not of this reference")
        self.phase = Phase(str(state["phase"]))
        for name in _ARRAYS:
            setattr(self, name, state[name].astype(mine[name].dtype))
        for name in Bank.ARRAYS:
            setattr(self.bank, name, state[f"bank.{name}"].astype(mine[f"bank.{name}"].dtype))
        for name, value in zip(_NUMBERS, state["numbers"].tolist(), strict=True):
            setattr(self, name, type(getattr(self, name))(value))

    def _step(self, bins: NDArray[np.int64], numbers: NDArray[np.float64], time: float) -> None:
        usable = bins != UNUSABLE
        if not usable.any():
            self.unusable += 1
            return
        slot = self.samples % WINDOW
        self.recent_bins[slot] = bins
        self.recent_numbers[slot] = numbers
        self.recent_times[slot] = time
        self.samples += 1
        if self.phase is Phase.ALARM:
            self._see_whether_it_is_over()
            return
        self.bank.update(self._p_values(bins), usable, self.samples)
        self._absorb(bins, numbers, usable)
        if self.phase is Phase.BURN_IN and self.samples >= BURN_IN:
            self._end_burn_in()
        self._see_whether_to_alarm(time)

    def _p_values(self, bins: NDArray[np.int64]) -> NDArray[np.float64]:
        below = (self.counts * (self._ranks < bins[:, None])).sum(axis=1)
        own = self.counts[self._rows, bins] + 1.0
        drawn = self._rng.random(len(bins))
        p: NDArray[np.float64] = (below + drawn * own) / (self.counts.sum(axis=1) + 1.0)
        return p

    def _absorb(
        self, bins: NDArray[np.int64], numbers: NDArray[np.float64], usable: NDArray[np.bool_]
    ) -> None:
        self.counts[self._rows[usable], bins[usable]] += 1.0
        known = np.isfinite(numbers)
        self.sums[0] += known
        self.sums[1] += np.where(known, numbers, 0.0)

    def _end_burn_in(self) -> None:
        self.phase = Phase.CALM
        if self._worst(self.samples - BURN_IN) < self.limits.min_effect:
            self.counts -= self.reference.counts
            self._begin_anew()

    def _see_whether_to_alarm(self, time: float) -> None:
        if self.crossed == 0:
            if self.bank.statistic() >= self.limits.average_run_length:
                self.crossed = self.samples
                self.crossed_statistic = self.bank.statistic()
                self.onset = max(self.bank.best()[1] - 1, self.samples - WINDOW + 1, 0)
                self.onset_time = float(self._recent(self.recent_times, self.onset)[0])
            return
        fresh = self.samples - self.crossed
        if fresh >= FRESH_ROWS and self._worst(self.crossed) >= self.limits.min_effect:
            self.phase = Phase.ALARM
            self.alarm_step, self.alarm_time = self.samples, time
            self._take_back(max(self.onset, self.samples - WINDOW))
        elif fresh >= WINDOW:
            self.small_shifts += 1
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.phase = Phase.CALM
        self.crossed = 0
        self.bank.reset()

    def _take_back(self, since: int) -> None:
        """What came after the onset is no reference."""
        self.counts -= histograms(self._recent(self.recent_bins, since), self.counts.shape[1])
        numbers = self._recent(self.recent_numbers, since)
        known = np.isfinite(numbers)
        self.sums[0] -= known.sum(axis=0)
        self.sums[1] -= np.where(known, numbers, 0.0).sum(axis=0)

    def _see_whether_it_is_over(self) -> None:
        since_alarm = self.samples - self.alarm_step
        if since_alarm < _TO_CLEAR or since_alarm % 32:
            return
        if self._worst(self.samples - _TO_CLEAR) < self.limits.min_effect / 2:
            self._begin_anew()

    def _worst(self, since: int) -> float:
        """The largest effect since a step, on the safe side of what so few rows can tell."""
        return float(self._effects(since, _SURE).max())

    def _effects(self, since: int, deviations: float = 0.0) -> NDArray[np.float64]:
        """[C] distances between the rows after step `since` and all before them."""
        current = histograms(self._recent(self.recent_bins, since), self.counts.shape[1])
        before = self.counts if self.phase is Phase.ALARM else self.counts - current
        groups = self.reference.coarse
        return total_variation(
            regroup(before, groups), regroup(current, groups), deviations=deviations
        )

    def _recent(self, ring: NDArray[T], since: int) -> NDArray[T]:
        """The ring's rows after step `since`, oldest first, WINDOW at most."""
        first = max(since, self.samples - WINDOW, 0)
        return ring[np.arange(first, self.samples) % WINDOW]

    def _finding(self) -> Finding:
        since = max(self.onset, self.samples - WINDOW)
        effects = self._effects(since)
        current = histograms(self._recent(self.recent_bins, since), self.counts.shape[1])
        order = np.argsort(-effects, kind="stable")[:_SHOWN_CHANNELS]
        shifts = tuple(self._shift(int(c), float(effects[c]), current[c], since) for c in order)
        return Finding(
            statistic=self.crossed_statistic,
            threshold=float(self.limits.average_run_length),
            samples=self.samples,
            samples_since_onset=self.samples - self.onset,
            onset=datetime.fromtimestamp(self.onset_time, UTC),
            detected=datetime.fromtimestamp(self.alarm_time, UTC),
            shifts=shifts,
        )

    def _shift(
        self, index: int, effect: float, current: NDArray[np.float64], since: int
    ) -> ChannelShift:
        used = int(self.reference.bins_used[index])
        before = self.counts[index, :used]
        edges = self.reference.edges[index]
        numbers = self._recent(self.recent_numbers, since)[:, index]
        numbers = numbers[np.isfinite(numbers)]
        calm_rows, calm_sum = self.sums[:, index]
        return ChannelShift(
            channel=self.reference.names[index],
            effect=effect,
            reference_mean=calm_sum / calm_rows if calm_rows else float("nan"),
            current_mean=float(numbers.mean()) if len(numbers) else float("nan"),
            edges=tuple(edges.tolist()),
            reference=tuple((before / max(before.sum(), 1.0)).tolist()),
            current=tuple((current[:used] / max(current.sum(), 1.0)).tolist()),
        )
