"""Bets against "this p-value is uniform", and what they have won.

A p-value p of a channel is uniform while live rows are exchangeable with the reference. Each bet
is a density on [0, 1] fixed before p is seen, so its payoff has mean one under that hypothesis.
The Shiryaev-Roberts recursion R <- (1 + R) * payoff then grows by one a step in the mean, whatever
the bets: an alarm at R >= A comes at most once in A steps in the mean (Pollak 1985; e-detectors:
Shin, Ramdas, Rinaldo 2023). The mean of R over bets and channels keeps this, however they hang
together.

Fixed bets know the usual ways to move (up, down, apart, together, into the tails); adaptive ones
learn the histogram of recent p-values, forgetting at several rates (Vovk et al. 2021, "Retrain or
not retrain").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TILTS = (-6.0, -2.0, 2.0, 6.0)
_TAIL = 0.03
_CELLS = 20
_MEMORIES = np.array([25.0, 100.0, 400.0])
_PRIOR = 10.0
_CAUTION = 0.1
FIXED = len(_TILTS) + 4
BETS = FIXED + len(_MEMORIES)

_HUGE = 1e200


def fixed_payoffs(p: Floats) -> Floats:
    """[C, FIXED] for p-values [C]."""
    column = p[:, None]
    tilts = np.array(_TILTS)
    tilted = tilts * np.exp(tilts * column) / np.expm1(tilts)
    apart = 12.0 * (column - 0.5) ** 2 - 1.0
    tail = 0.5 + 0.5 * ((column < _TAIL) | (column > 1.0 - _TAIL)) / (2.0 * _TAIL)
    linear = 1.0 + 0.5 * (2.0 * column - 1.0)
    payoffs: Floats = np.concatenate(
        [tilted, 1.0 + 0.9 * apart, 1.0 - 0.45 * apart, tail, linear], axis=1
    )
    return payoffs


class Bank:
    """The bets of C channels: wealth [C, BETS] in Shiryaev-Roberts form, and where it began."""

    ARRAYS = ("wealth", "streak", "streak_start", "cells")

    def __init__(self, channels: int) -> None:
        self._rows = np.arange(channels)
        self.reset(channels)

    def reset(self, channels: int | None = None) -> None:
        count = channels or len(self._rows)
        self.wealth = np.zeros((count, BETS))
        # CUSUM of the same payoffs: tells since when a bet has been winning.
        self.streak = np.zeros((count, BETS))
        self.streak_start = np.zeros((count, BETS), dtype=np.int64)
        # Recent p-values by cell, a memory each.
        self.cells = np.zeros((count, len(_MEMORIES), _CELLS))

    def statistic(self) -> float:
        """The mean wealth; an alarm is due when it reaches the promised run length."""
        return float(self.wealth.mean())

    def update(self, p: Floats, usable: NDArray[np.bool_], step: int) -> None:
        """p [C] in (0, 1]; channels that are not usable neither win nor lose at this step."""
        cell = np.minimum((p * _CELLS).astype(np.int64), _CELLS - 1)
        weights = self.cells[self._rows, :, cell]
        density = (weights + _PRIOR / _CELLS) * _CELLS / (self.cells.sum(axis=2) + _PRIOR)
        payoff = np.concatenate([fixed_payoffs(p), _CAUTION + (1.0 - _CAUTION) * density], axis=1)
        mask = usable[:, None]
        grown = np.minimum((1.0 + self.wealth) * payoff, _HUGE)
        self.wealth = np.where(mask, grown, self.wealth)
        fresh = self.streak <= 0.0
        self.streak_start = np.where(fresh & mask, step, self.streak_start)
        streak = np.where(fresh, 0.0, self.streak) + np.log(payoff)
        self.streak = np.where(mask, streak, self.streak)
        self.cells *= np.where(mask, 1.0 - 1.0 / _MEMORIES, 1.0)[:, :, None]
        self.cells[self._rows[usable], :, cell[usable]] += 1.0

    def best(self) -> tuple[int, int]:
        """(channel, step at which its winning streak began) of the bet that has won most."""
        channel, bet = np.unravel_index(int(np.argmax(self.streak)), self.streak.shape)
        return int(channel), int(self.streak_start[channel, bet])
