"""Algorithms that other packages bring, found by entry point.

The entry point's name is the algorithm's, and names a `Method`. A plugin is a guest: what it does
wrong ends the call that asked for it with a clear error, never the service.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

import structlog

from keeptune.runtime.errors import FailedPrecondition, InvalidInput, KeeptuneError
from keeptune.runtime.names import ID_PATTERN
from keeptune.search.optimizers.base import (
    Adopting,
    Algorithm,
    Method,
    Nothing,
    Optimizer,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.rehearsal import reason, rehearse
from keeptune.search.space import Assignment

_T = TypeVar("_T")

log = structlog.get_logger()

GROUP = "keeptune.optimizers"


class Plugins:
    """Plugins by name. One that cannot be loaded says so when it is asked for."""

    def __init__(self, points: Iterable[EntryPoint], taken: Collection[str]) -> None:
        """`taken` = names that are no longer free."""
        self._points: dict[str, EntryPoint] = {}
        self._loaded: dict[str, Method] = {}
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            problem = ""
            if not ID_PATTERN.fullmatch(point.name):
                problem = "its name is not made of a-z, 0-9 and -"
            elif point.name in taken or point.name in self._points:
                problem = "its name is taken"
            if problem:
                log.warning("optimizer left out", optimizer=point.name, at=point.value, why=problem)
            else:
                self._points[point.name] = point

    @classmethod
    def installed(cls, taken: Collection[str]) -> Plugins:
        return cls(entry_points(group=GROUP), taken)

    @property
    def names(self) -> list[str]:
        return sorted(self._points)

    def usable(self) -> list[Algorithm]:
        """Those that can be loaded, by name; what is wrong with the others is logged."""
        found = []
        for name in self.names:
            try:
                found.append(self._method(name).algorithm)
            except FailedPrecondition as error:
                log.warning("optimizer left out", optimizer=name, why=error.message)
        return found

    def check(self, name: str, problem: Problem, field: str) -> None:
        """Raises InvalidInput when it cannot work on the problem, FailedPrecondition when on none.

        `name` is one of `names`.
        """
        method = self._method(name)
        try:
            rehearse(_Guest(method.make(problem), name, problem), problem)
        except Exception as error:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, which cannot work on this study: {reason(error)}",
                fix='choose another algorithm, e.g. "auto"',
                reason="ALGORITHM_UNFIT",
            ) from error

    def make(self, name: str, problem: Problem) -> Optimizer:
        """Raises FailedPrecondition when the plugin is gone or broken."""
        if name not in self._points:
            raise FailedPrecondition(
                f"the algorithm {name!r} is not installed (any more)",
                fix="install the package that brings it, or create a study with another algorithm",
                reason="ALGORITHM_MISSING",
            )
        optimizer = _guarded(name, lambda: self._method(name).make(problem))
        kind = _AdoptingGuest if isinstance(optimizer, Adopting) else _Guest
        return kind(optimizer, name, problem)

    def _method(self, name: str) -> Method:
        if name not in self._loaded:
            self._loaded[name] = self._load(self._points[name])
        return self._loaded[name]

    def _load(self, point: EntryPoint) -> Method:
        try:
            method = point.load()
            if not isinstance(method, Method):
                raise TypeError(f"it is a {type(method).__name__}, not a Method")
            if method.algorithm.name != point.name:
                raise ValueError(f"its algorithm is called {method.algorithm.name!r}")
        except Exception as error:
            raise FailedPrecondition(
                f"the algorithm {point.name!r} ({point.value}) cannot be loaded: {reason(error)}",
                fix="repair or remove the package that brings it",
                reason="ALGORITHM_BROKEN",
            ) from error
        return method


class _Guest:
    """A plugin's optimiser, whose errors are its own and whose suggestions are looked at."""

    def __init__(self, optimizer: Optimizer, name: str, problem: Problem) -> None:
        self._optimizer = optimizer
        self._name = name
        self._space = problem.space

    def ask(self, number: int) -> Suggestion | Nothing:
        return _guarded(self._name, lambda: self._asked(number))

    def tell(self, result: Result) -> None:
        _guarded(self._name, lambda: self._optimizer.tell(result))

    def _asked(self, number: int) -> Suggestion | Nothing:
        answer = self._optimizer.ask(number)
        if isinstance(answer, Nothing):
            return answer
        wrong = self._space.problem_with(answer.parameters)
        if wrong is not None:
            name, problem = wrong
            raise ValueError(f"it suggested parameters outside of the space: {name!r} {problem}")
        return answer


class _AdoptingGuest(_Guest):
    def adopt(self, number: int, parameters: Assignment) -> None:
        assert isinstance(self._optimizer, Adopting)
        self._optimizer.adopt(number, parameters)


def _guarded(name: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except KeeptuneError:
        raise
    except Exception as error:
        raise FailedPrecondition(
            f"the algorithm {name!r} cannot go on: {reason(error)}",
            fix="create a study with another algorithm that warm-starts from this one",
            reason="ALGORITHM_FAILED",
        ) from error
