"""The trials that no other trial beats in every objective, and how much they attain together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

# How far behind the worst of the front in each objective the reference point lies, as a part of
# what the front spans there: so that its ends count too (Ishibuchi et al., How to Specify a
# Reference Point in Hypervolume Calculation, Evolutionary Computation 26, 2018).
_MARGIN = 0.1


class Front:
    """The non-dominated of all points added so far; of equal ones the first.

    With one objective that is the best point. Losses: less is better.
    """

    def __init__(self) -> None:
        self._points: dict[int, tuple[float, ...]] = {}

    def add(self, number: int, losses: Sequence[float]) -> None:
        """Costs as much as the front is large."""
        new = tuple(losses)
        if any(_covers(old, new) for old in self._points.values()):
            return
        self._points = {n: old for n, old in self._points.items() if not _covers(new, old)}
        self._points[number] = new

    @property
    def numbers(self) -> list[int]:
        """The front's members, best first objective first."""
        return sorted(self._points, key=lambda number: (self._points[number], number))

    @property
    def losses(self) -> Floats:
        """Theirs (n, objectives), in the order of `numbers`."""
        return np.array([self._points[number] for number in self.numbers])


def _covers(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """`a` is nowhere worse than `b`."""
    return all(x <= y for x, y in zip(a, b, strict=True))


def is_optimal(losses: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the points (n, objectives) no other beats; of equal ones all."""
    nowhere_worse = (losses[:, None] <= losses[None]).all(axis=2)
    somewhere_better = (losses[:, None] < losses[None]).any(axis=2)
    return np.asarray(~(nowhere_worse & somewhere_better).any(axis=0))


def reference_point(losses: Floats) -> Floats:
    """A little behind the front of the points (n, objectives), n > 0: (objectives,)."""
    front = losses[is_optimal(losses)]
    span = np.ptp(front, axis=0)
    # A front that spans nothing gets its scale from the rest, or from its own size.
    span = np.where(span > 0, span, np.ptp(losses, axis=0))
    span = np.where(span > 0, span, np.maximum(np.abs(front[0]), 1.0))
    return np.asarray(front.max(axis=0) + _MARGIN * span)


def hypervolume(losses: Floats, reference: Floats) -> float:
    """What the points (n, objectives) dominate of what is better than the reference.

    Exact; costs n log n in two dimensions, and n times as much for each further one. Zitzler and
    Thiele, Multiobjective Evolutionary Algorithms, IEEE Transactions on Evolutionary Computation,
    1999.
    """
    inside = losses[(losses < reference).all(axis=1)]
    return _volume(inside[is_optimal(inside)], reference)


def _volume(points: Floats, reference: Floats) -> float:
    """Of points that are all better than the reference."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    thickness = np.diff(np.append(points[:, -1], reference[-1]))
    if points.shape[1] == 2:
        return float(((reference[0] - np.minimum.accumulate(points[:, 0])) * thickness).sum())
    total = 0.0
    for i in np.flatnonzero(thickness):
        below = points[: i + 1, :-1]
        if points.shape[1] > 3:
            below = below[is_optimal(below)]
        total += float(thickness[i]) * _volume(below, reference[:-1])
    return total
