"""How long to wait before trying again: longer each time, with chance, up to a limit."""

from __future__ import annotations

import random


class Backoff:
    """Delays in seconds: `initial`, then `factor` times more, up to `maximum`.

    Each is lowered by a random share of up to `jitter` (0 to 1), so that many who failed together
    do not come back together.
    """

    def __init__(
        self,
        initial: float = 0.1,
        maximum: float = 30.0,
        factor: float = 2.0,
        jitter: float = 0.5,
        rng: random.Random | None = None,
    ) -> None:
        if not (0 < initial <= maximum and factor >= 1 and 0 <= jitter <= 1):
            raise ValueError("need 0 < initial <= maximum, factor >= 1, 0 <= jitter <= 1")
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._rng = rng or random.Random()
        self._next = initial

    def next(self, at_least: float = 0.0) -> float:
        """The next delay; `at_least` is what the other side asked for (`retry_after`)."""
        delay = self._next * (1 - self._jitter * self._rng.random())
        self._next = min(self._maximum, self._next * self._factor)
        return max(delay, at_least)

    def reset(self) -> None:
        """After a success."""
        self._next = self._initial
