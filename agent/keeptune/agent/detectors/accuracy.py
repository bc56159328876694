"""The accuracy detector: do true outcomes say that the model got worse than it may?"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from keeptune.agent.detectors.base import Finding, Limits
from keeptune.agent.detectors.rate import RateTest

RECENT = 200
MIN_RECENT = 20


class AccuracyDetector:
    """Bets against "the share of wrong answers is at most the profile's plus the allowed drop".

    `profile_accuracy` is a share, 0 to 1. Outcomes come late and in any order; each counts once.
    """

    def __init__(self, profile_accuracy: float, limits: Limits) -> None:
        self.lowest = max(profile_accuracy - limits.max_accuracy_drop, 0.0)
        self.limits = limits
        self._test = RateTest(1.0 - self.lowest)
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self.outcomes = 0
        self._alarm: Finding | None = None

    @property
    def recent_accuracy(self) -> float | None:
        """Over the last RECENT outcomes; None while there are fewer than MIN_RECENT."""
        if len(self._recent) < MIN_RECENT:
            return None
        return sum(self._recent) / len(self._recent)

    @property
    def level(self) -> float:
        statistic = self._test.statistic / self.limits.average_run_length
        return float(np.log10(max(statistic, 1e-9)))

    def update(self, right: bool, time: float) -> None:
        """One outcome, known at `time` (unix seconds)."""
        self.outcomes += 1
        self._recent.append(right)
        if self._alarm is None:
            self._test.update(int(not right), 1, time)
            self._see_whether_to_alarm(time)
        elif (self.recent_accuracy or 0.0) >= self.lowest and len(self._recent) == RECENT:
            self._alarm = None
            self._test.reset()

    def finding(self) -> Finding | None:
        return self._alarm

    def save(self) -> dict[str, NDArray[np.generic]]:
        test = self._test
        return {
            "bets": np.stack([test.wealth, test.streak, test.streak_start]),
            "recent": np.array(self._recent, dtype=bool),
            "outcomes": np.array(self.outcomes),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Goes on where it was; an alarm comes again with the next outcome while it holds.

        Raises ValueError when the state is not one of `save`.
        """
        bets = state.get("bets")
        if bets is None or bets.shape != (3, len(self._test.wealth)):
            raise ValueError("the saved state is not of an accuracy detector")
        self._test.wealth, self._test.streak, self._test.streak_start = bets.astype(np.float64)
        self._recent = deque(state["recent"].tolist(), maxlen=RECENT)
        self.outcomes = int(state["outcomes"])

    def _see_whether_to_alarm(self, time: float) -> None:
        recent = self.recent_accuracy
        if (
            self._test.statistic < self.limits.average_run_length
            or recent is None
            or recent >= self.lowest
        ):
            return
        self._alarm = Finding(
            statistic=self._test.statistic,
            threshold=float(self.limits.average_run_length),
            samples=self.outcomes,
            samples_since_onset=len(self._recent),
            onset=datetime.fromtimestamp(self._test.onset, UTC),
            detected=datetime.fromtimestamp(time, UTC),
            note=(
                f"accuracy over the last {len(self._recent)} outcomes is {recent:.3f}; "
                f"the limit is {self.lowest:.3f}"
            ),
        )
