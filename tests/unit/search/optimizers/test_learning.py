"""Those that learn do so: on smooth, discrete and conditional problems they beat random search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.actor_critic import ActorCritic, Settings
from keeptune.search.optimizers.base import Optimizer, Outcome, Problem, Result, Suggestion
from keeptune.search.space import Assignment, Condition, Parameter, SearchSpace

LEARNING = ["tpe", "regularized-evolution", "q-learning", "actor-critic"]
TRIALS = 50
SEEDS = range(6)

CUBE = SearchSpace(tuple(Parameter(name, FloatRange(0.0, 1.0)) for name in "abcde"))
LEVELS = SearchSpace(
    (
        *(Parameter(name, IntRange(0, 9)) for name in "abc"),
        Parameter("kind", Categories(tuple("uvwxyz"))),
        Parameter("bias", Categories((True, False))),
    )
)
FAMILIES = SearchSpace(
    (
        Parameter("family", Categories(("kernel", "network", "tree"))),
        Parameter(
            "cost", FloatRange(1e-3, 1e3, log=True), (Condition("family", ("kernel", "network")),)
        ),
        Parameter("rate", FloatRange(1e-5, 1.0, log=True), (Condition("family", ("network",)),)),
        Parameter("width", IntRange(8, 512, log=True), (Condition("family", ("network",)),)),
        Parameter("depth", IntRange(1, 20), (Condition("family", ("tree",)),)),
    )
)


def sphere(parameters: Assignment) -> float:
    aims = (0.2, 0.7, 0.4, 0.9, 0.55)
    return sum((float(v) - aim) ** 2 for v, aim in zip(parameters.values(), aims, strict=True))


def levels(p: Assignment) -> float:
    kinds = dict(zip("uvwxyz", (0.0, 0.33, 0.67, 1.0, 1.33, 1.67), strict=True))
    numbers = abs(float(p["a"]) - 3) + abs(float(p["b"]) - 7) + abs(float(p["c"]) - 5)
    return numbers / 5 + kinds[str(p["kind"])] + (0.3 if p["bias"] else 0.0)


def families(p: Assignment) -> float:
    if p["family"] == "tree":
        return 0.3 + 0.002 * (float(p["depth"]) - 12) ** 2
    far = 0.02 * math.log10(float(p["cost"])) ** 2
    if p["family"] == "kernel":
        return 0.2 + far
    away = 0.06 * (math.log10(float(p["rate"])) + 2.5) ** 2
    return far + away + 0.02 * (math.log2(float(p["width"])) - 7) ** 2


PROBLEMS = {"sphere": (CUBE, sphere), "levels": (LEVELS, levels), "families": (FAMILIES, families)}


def mean_best(
    make: Callable[[Problem], Optimizer],
    space: SearchSpace,
    loss: Callable[[Assignment], float],
    trials: int = TRIALS,
    seeds: Sequence[int] = SEEDS,
) -> float:
    """What is left after the trials, on average over the seeds."""
    total = 0.0
    for seed in seeds:
        optimizer = make(Problem(space, seed, trials=trials))
        found = []
        for number in range(1, trials + 1):
            answer = optimizer.ask(number)
            assert isinstance(answer, Suggestion)
            found.append(loss(answer.parameters))
            optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (found[-1],)))
        total += min(found)
    return total / len(seeds)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("algorithm", LEARNING)
def test_it_beats_random_search_by_far(algorithm: str, problem: str) -> None:
    space, loss = PROBLEMS[problem]
    by_chance = mean_best(partial(registry.make, "random"), space, loss)
    assert mean_best(partial(registry.make, algorithm), space, loss) < 0.75 * by_chance


def test_the_policy_owes_it_to_its_learning() -> None:
    untaught = partial(ActorCritic, settings=Settings(updates=0))
    without = mean_best(untaught, CUBE, sphere, 100, range(3))
    assert mean_best(ActorCritic, CUBE, sphere, 100, range(3)) < 0.5 * without


@pytest.mark.parametrize("algorithm", LEARNING)
def test_it_turns_to_what_is_feasible(algorithm: str) -> None:
    """Half of the space breaks a constraint, a quarter cannot be evaluated; losses are equal."""
    optimizer = registry.make(algorithm, Problem(CUBE, 4, trials=80, constraints=1))
    feasible = []
    for number in range(1, 81):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        a, b = float(answer.parameters["a"]), float(answer.parameters["b"])
        result = Result(number, answer.parameters, Outcome.MEASURED, (1.0,), (a - 0.5,))
        if b > 0.75:
            result = Result(number, answer.parameters, Outcome.INFEASIBLE)
        feasible.append(result.is_feasible)
        optimizer.tell(result)
    # By chance 3 in 8 are.
    assert sum(feasible[-30:]) >= 20


@pytest.mark.parametrize("algorithm", LEARNING)
def test_two_objectives_are_both_pursued(algorithm: str) -> None:
    """The nearer a point lies to the line between two aims, the better it is in both."""

    def play(name: str) -> float:
        optimizer = registry.make(name, Problem(CUBE, 2, trials=60, objectives=2))
        far = []
        for number in range(1, 61):
            answer = optimizer.ask(number)
            assert isinstance(answer, Suggestion)
            a, *others = (float(v) for v in answer.parameters.values())
            far.append(sum((v - 0.5) ** 2 for v in others))
            losses = (far[-1] + a**2, far[-1] + (1 - a) ** 2)
            optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, losses))
        return sum(sorted(far)[:10])

    assert play(algorithm) < 0.75 * play("random")
