"""How a study's trials are stopped early, as it is asked for; and the interface of all rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class MedianPruning:
    """Golovin et al., Google Vizier: A Service for Black-Box Optimization (KDD 2017), 3.2.1."""

    startup_trials: int = 4
    warmup_steps: int = 1


@dataclass(frozen=True)
class AshaPruning:
    """Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), alg. 2."""

    min_steps: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True)
class HyperbandPruning:
    """Li et al., Hyperband (JMLR 2018); `max_steps` = what a trial has that is not pruned."""

    max_steps: int
    min_steps: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True)
class ForecastPruning:
    """Stops a trial when it is improbable, below `level`, that its last loss beats the best.

    `level` lies above 0 and below 0.5. `max_steps` = what a trial has that is not pruned; 0 = as
    many as the longest completed trial reported. No trial is judged up to step `min_steps`, nor at
    its first two reports.
    """

    level: float = 0.05
    max_steps: int = 0
    min_steps: int = 0


Pruning = MedianPruning | AshaPruning | HyperbandPruning | ForecastPruning

# A step and the loss reported there.
Point = tuple[int, float]


class PruningRule(Protocol):
    def observe(self, trial: int, step: int, loss: float) -> None:
        """A loss was reported; one for a step already seen changes nothing."""

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
        """The trial has ended; `completed` = by itself, neither pruned nor failed.

        `loss` is its result, None when it has none that counts (e.g. a constraint is broken).
        """

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        """Why the trial should stop now, given also points not observed yet; empty = go on."""
