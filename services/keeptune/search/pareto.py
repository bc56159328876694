"""The trials that no other trial beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence


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


def _covers(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """`a` is nowhere worse than `b`."""
    return all(x <= y for x, y in zip(a, b, strict=True))
