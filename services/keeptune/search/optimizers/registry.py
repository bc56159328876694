"""Algorithms by name: what there is, what fits a study, and how to make it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from keeptune.runtime.errors import InvalidInput
from keeptune.search.optimizers import (
    auto,
    bayesian,
    grid,
    nevergrad,
    quasi_random,
    random_search,
)
from keeptune.search.optimizers.auto import Choice
from keeptune.search.optimizers.base import Algorithm, Optimizer, Problem

DEFAULT = auto.ALGORITHM.name

_MAKERS: dict[str, Callable[[Problem], Optimizer]] = {
    random_search.ALGORITHM.name: random_search.RandomSearch,
    grid.ALGORITHM.name: grid.GridSearch,
    quasi_random.ALGORITHM.name: quasi_random.QuasiRandomSearch,
    bayesian.ALGORITHM.name: bayesian.make,
}


def algorithms() -> Iterator[Algorithm]:
    """Everything a study can name. Takes seconds the first time."""
    yield auto.ALGORITHM
    yield random_search.ALGORITHM
    yield grid.ALGORITHM
    yield quasi_random.ALGORITHM
    yield bayesian.ALGORITHM
    yield from nevergrad.algorithms()


def choose(name: str, problem: Problem, field: str) -> Choice:
    """The algorithm that a study with this wish gets, tried out on its problem.

    Takes seconds the first time. Raises InvalidInput naming `field` for an unknown name, and for
    an algorithm that cannot work on the problem.
    """
    if name in ("", DEFAULT):
        return auto.choose(problem)
    if name.startswith(nevergrad.PREFIX):
        if not problem.space.free:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, but the space leaves nothing to choose",
                fix='use "auto"',
            )
        nevergrad.check(name.removeprefix(nevergrad.PREFIX), problem, field)
    elif name not in _MAKERS:
        raise _unknown(name, field)
    if name == grid.ALGORITHM.name and problem.trials is None:
        _check_finite(problem, field)
    return Choice(name, "it was asked for")


def make(name: str, problem: Problem) -> Optimizer:
    """The optimiser that `choose` named. Takes seconds the first time."""
    if name.startswith(auto.START_PREFIX):
        main = name.removeprefix(auto.START_PREFIX).removeprefix(nevergrad.PREFIX)
        return auto.StartedSearch(main, problem)
    if name.startswith(nevergrad.PREFIX):
        return nevergrad.NevergradSearch(name.removeprefix(nevergrad.PREFIX), problem)
    return _MAKERS[name](problem)


def _check_finite(problem: Problem, field: str) -> None:
    endless = [p.name for p in problem.space.parameters if p.domain.cardinality is None]
    if endless:
        raise InvalidInput(
            field=field,
            problem=f"is 'grid', but {endless[0]!r} is continuous and no number of trials is set",
            fix="set study.budget.max_trials, or give the parameter a step",
        )


def _unknown(name: str, field: str) -> InvalidInput:
    known = (DEFAULT, *_MAKERS)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    return InvalidInput(
        field=field,
        problem=f"is {name!r}, which is no algorithm",
        fix=f"{guess}ListAlgorithms gives all names: {', '.join(known)}, nevergrad/<Name>",
        reason="UNKNOWN_ALGORITHM",
    )
