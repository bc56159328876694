"""Is the share of bad events above its limit? A bet on counts, and since when."""

from __future__ import annotations

import numpy as np

# How far above the limit the share may be, as a part of what is left to 1.
_STEPS = np.array([0.03, 0.08, 0.2, 0.5, 0.85])
_HUGE = 1e200


class RateTest:
    """Shiryaev-Roberts likelihood ratios against "each event is bad with at most `limit`".

    Under that hypothesis the statistic grows by at most one an update in the mean, so that it
    reaches A at most once in A updates in the mean, whatever the order of good and bad.
    """

    def __init__(self, limit: float) -> None:
        """`limit`: a share, 0 to 1; 0 is taken as one in ten thousand."""
        base = min(max(limit, 1e-4), 0.999)
        higher = base + (1.0 - base) * _STEPS
        self._bad = np.log(higher / base)
        self._good = np.log((1.0 - higher) / (1.0 - base))
        self.reset()

    def reset(self) -> None:
        self.wealth = np.zeros(len(_STEPS))
        self.streak = np.zeros(len(_STEPS))
        self.streak_start = np.zeros(len(_STEPS))

    @property
    def statistic(self) -> float:
        return float(self.wealth.mean())

    @property
    def onset(self) -> float:
        """The time of the update that began the strongest winning streak."""
        return float(self.streak_start[int(np.argmax(self.streak))])

    def update(self, bad: int, total: int, time: float) -> None:
        """`bad` of `total` events since the last update, at `time` (unix seconds)."""
        if total <= 0:
            return
        gain = bad * self._bad + (total - bad) * self._good
        self.wealth = np.minimum((1.0 + self.wealth) * np.exp(np.minimum(gain, 400.0)), _HUGE)
        fresh = self.streak <= 0.0
        self.streak_start = np.where(fresh, time, self.streak_start)
        self.streak = np.where(fresh, 0.0, self.streak) + gain
