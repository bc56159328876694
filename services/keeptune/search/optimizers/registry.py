"""Algorithms by name: what there is, what fits a study, and how to make it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence

from keeptune.runtime.errors import InvalidInput
from keeptune.search.optimizers import (
    actor_critic,
    auto,
    bayesian,
    genetic_programming,
    grid,
    hedged,
    hypervolume,
    neat,
    nevergrad,
    nsga2,
    population_based,
    q_learning,
    quasi_random,
    random_search,
    regularized_evolution,
    repeating,
    tpe,
    transfer,
)
from keeptune.search.optimizers.auto import Choice
from keeptune.search.optimizers.base import Algorithm, Method, Optimizer, Problem
from keeptune.search.optimizers.earlier import Earlier
from keeptune.search.optimizers.plugins import Plugins

DEFAULT = auto.ALGORITHM.name

_METHODS = (
    Method(random_search.ALGORITHM, random_search.RandomSearch),
    Method(grid.ALGORITHM, grid.GridSearch),
    Method(quasi_random.ALGORITHM, quasi_random.QuasiRandomSearch),
    Method(bayesian.ALGORITHM, bayesian.make),
    Method(hedged.ALGORITHM, hedged.HedgedSearch),
    Method(hypervolume.ALGORITHM, hypervolume.make),
    Method(nsga2.ALGORITHM, nsga2.GeneticSearch),
    Method(population_based.ALGORITHM, population_based.PopulationBasedTraining),
    Method(tpe.ALGORITHM, tpe.TreeParzenSearch),
    Method(regularized_evolution.ALGORITHM, regularized_evolution.RegularizedEvolution),
    Method(genetic_programming.ALGORITHM, genetic_programming.GeneticProgramming),
    Method(neat.ALGORITHM, neat.Neat),
    Method(q_learning.ALGORITHM, q_learning.QLearning),
    Method(actor_critic.ALGORITHM, actor_critic.ActorCritic),
)
_MAKERS = {method.algorithm.name: method.make for method in _METHODS}


def algorithms() -> Iterator[Algorithm]:
    """Everything a study can name. Takes seconds the first time."""
    yield auto.ALGORITHM
    yield from (method.algorithm for method in _METHODS)
    yield from plugins().usable()
    yield from nevergrad.algorithms()


@functools.cache
def plugins() -> Plugins:
    """What other packages bring; what is installed while a program runs is seen by the next."""
    return Plugins.installed(taken=(DEFAULT, *_MAKERS))


def choose(name: str, problem: Problem, field: str) -> Choice:
    """The algorithm that a study with this wish gets, tried out on its problem.

    Takes seconds the first time. Raises InvalidInput naming `field` for an unknown name, and for
    an algorithm that cannot work on the problem, FailedPrecondition for a plugin that is broken.
    """
    if name in ("", DEFAULT):
        return auto.choose(problem)
    _check_graphs(name, problem, field)
    if name.startswith(nevergrad.PREFIX):
        if not problem.space.free:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, but the space leaves nothing to choose",
                fix='use "auto"',
            )
        nevergrad.check(name.removeprefix(nevergrad.PREFIX), problem, field)
    elif name in plugins().names:
        plugins().check(name, problem, field)
    elif name not in _MAKERS:
        raise _unknown(name, field)
    if name == grid.ALGORITHM.name and problem.trials is None:
        _check_finite(problem, field)
    return Choice(name, "it was asked for")


def make(name: str, problem: Problem, earlier: Sequence[Earlier] = ()) -> Optimizer:
    """The optimiser that `choose` named, which may learn from earlier studies.

    Takes seconds the first time.
    """
    optimizer = _made(name, problem)
    if problem.noisy:
        optimizer = repeating.made_fit(optimizer, problem)
    if not earlier or not getattr(optimizer, "learns", True):
        return optimizer
    return transfer.taught(optimizer, problem, earlier)


def _made(name: str, problem: Problem) -> Optimizer:
    if name.startswith(auto.START_PREFIX):
        main = name.removeprefix(auto.START_PREFIX).removeprefix(nevergrad.PREFIX)
        return auto.StartedSearch(main, problem)
    if name.startswith(nevergrad.PREFIX):
        return nevergrad.NevergradSearch(name.removeprefix(nevergrad.PREFIX), problem)
    if name in _MAKERS:
        return _MAKERS[name](problem)
    return plugins().make(name, problem)


def _check_graphs(name: str, problem: Problem, field: str) -> None:
    """Unknown names are not its business."""
    graphs = problem.space.graphs
    if not graphs:
        return
    known = [method.algorithm for method in _METHODS]
    if name in plugins().names:
        known += plugins().usable()
    unfit = name.startswith(nevergrad.PREFIX) or any(
        algorithm.name == name and not algorithm.graphs for algorithm in known
    )
    if unfit:
        able = ", ".join(algorithm.name for algorithm in known if algorithm.graphs)
        raise InvalidInput(
            field=field,
            problem=f"is {name!r}, which cannot search the graph {graphs[0]!r}",
            fix=f'use "auto" or one of {able}',
            reason="ALGORITHM_UNFIT",
        )


def _check_finite(problem: Problem, field: str) -> None:
    endless = [p.name for p in problem.space.parameters if p.domain.cardinality is None]
    if endless:
        raise InvalidInput(
            field=field,
            problem=f"is 'grid', but {endless[0]!r} is continuous and no number of trials is set",
            fix="set study.budget.max_trials, or give the parameter a step",
        )


def _unknown(name: str, field: str) -> InvalidInput:
    known = (DEFAULT, *_MAKERS, *plugins().names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    return InvalidInput(
        field=field,
        problem=f"is {name!r}, which is no algorithm",
        fix=f"{guess}ListAlgorithms gives all names: {', '.join(known)}, nevergrad/<Name>",
        reason="UNKNOWN_ALGORITHM",
    )
