"""What every detector is: fed with what was seen, it says what is wrong now, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime.channels import Channels


@dataclass(frozen=True)
class Limits:
    """How one model is watched, with every default filled in.

    average_run_length: sampled requests between false alarms, in the mean; above 0.
    min_effect: total variation distance, 0 to 1. max_error_rate and max_accuracy_drop: shares.
    max_latency: seconds; None = relative to the version's own beginning.
    """

    average_run_length: int = 50_000
    min_effect: float = 0.1
    max_error_rate: float = 0.02
    max_latency: float | None = None
    max_accuracy_drop: float = 0.1


@dataclass(frozen=True)
class ChannelShift:
    """One channel, reference against now: histograms over the same bins, as shares.

    `edges` are the inner ones; empty for categories. Means are NaN for categories.
    """

    channel: str
    effect: float
    reference_mean: float
    current_mean: float
    edges: tuple[float, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """Something is wrong: the statistic that crossed its threshold, since when, and where."""

    statistic: float
    threshold: float
    samples: int
    samples_since_onset: int
    onset: datetime
    detected: datetime
    shifts: tuple[ChannelShift, ...] = ()
    note: str = ""


class Detector(Protocol):
    """Watches what comes by for one version of one model on one host."""

    @property
    def level(self) -> float:
        """log10 of the statistic over its threshold: 0 = alarm."""
        ...

    def finding(self) -> Finding | None:
        """What is wrong now; None while all is well."""
        ...


class SampleDetector(Detector, Protocol):
    """One that looks at sampled requests and their answers."""

    def update(self, values: Channels, times: NDArray[np.float64]) -> None:
        """Rows in the order they were served: channels of [rows] each, unix seconds [rows]."""
        ...

    def save(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state as named arrays, so that a restarted agent goes on where it was."""
        ...

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Raises ValueError when the state is not of this reference."""
        ...
