"""`pbt`: a population that trains on while its parameters change.

A trial is one interval of training of one member, say ten epochs. Its suggestion names the trial
whose checkpoint it continues from; the first of each member names none. A member among the worst
quarter copies one of the best quarter, weights and all, and changes the copied parameters a
little; any other goes on as it is. So the parameters follow a schedule that no fixed choice has.

Nobody waits for the slowest: whichever member has ended its interval, and has had the fewest so
far, goes on, and is compared with what is known of the others by then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from keeptune.search.domains import FloatRange, IntRange, Value
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import (
    Algorithm,
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.quasi_random import QuasiRandomSearch
from keeptune.search.optimizers.standing import order
from keeptune.search.space import Assignment, SearchSpace

ALGORITHM = Algorithm(
    name="pbt",
    description=(
        "Population-based training: trials are intervals of training; poor members of the "
        "population continue from the checkpoints of good ones with parameters a little changed. "
        "For schedules; needs workers that load the checkpoint of the trial they continue from."
    ),
    source=(
        "Jaderberg et al., Population Based Training of Neural Networks, 2017, "
        "https://arxiv.org/abs/1711.09846"
    ),
    multi_objective=True,
    constraints=True,
)

_ASSUMED_TRIALS = 100
_SMALLEST, _LARGEST = 4, 20
# The best and the worst part of the population; and how often a parameter is drawn anew.
_QUARTER = 0.25
_RESAMPLED = 0.25
# Standard deviation of a change, as a part of the parameter's range.
_STEP = 0.1


@dataclass
class _Member:
    """`latest` is its last interval that could be evaluated."""

    intervals: int = 0
    running: bool = True
    latest: Result | None = None
    # Its last interval broke or could not be evaluated.
    broken: bool = False


class PopulationBasedTraining:
    def __init__(self, problem: Problem) -> None:
        planned = problem.trials or _ASSUMED_TRIALS
        self._problem = problem
        self._size = min(max(planned // 10, _SMALLEST), _LARGEST)
        self._start = QuasiRandomSearch(problem)
        self._members: list[_Member] = []
        self._member_of: dict[int, _Member] = {}

    def ask(self, number: int) -> Suggestion | Nothing:
        if len(self._members) < self._size:
            self._members.append(_Member())
            return self._continued(number, self._members[-1], self._fresh(number))
        idle = [member for member in self._members if not member.running]
        if not idle:
            return Nothing.YET
        member = min(idle, key=lambda each: each.intervals)
        return self._continued(number, member, self._next(number, member))

    def tell(self, result: Result) -> None:
        """What was never asked for has no checkpoint to continue from."""
        member = self._member_of.pop(result.number, None)
        if member is None:
            return
        member.running = False
        member.broken = result.outcome is not Outcome.MEASURED
        if not member.broken:
            member.latest = result

    def _continued(self, number: int, member: _Member, suggestion: Suggestion) -> Suggestion:
        member.running = True
        member.intervals += 1
        self._member_of[number] = member
        return suggestion

    def _fresh(self, number: int) -> Suggestion:
        parameters = self._start.ask(number).parameters
        return Suggestion(parameters, ALGORITHM.name, "explore: a new member")

    def _next(self, number: int, member: _Member) -> Suggestion:
        known = [each.latest for each in self._members if each.latest is not None]
        ranked = [known[i] for i in order(known)]
        few = math.ceil(_QUARTER * len(ranked))
        own = member.latest
        poor = len(ranked) >= _SMALLEST and own in ranked[-few:]
        if own is not None and not member.broken and not poor:
            return Suggestion(
                own.parameters, ALGORITHM.name, f"exploit: {own.number} goes on", own.number
            )
        best = [each for each in ranked[:few] if each is not own] or ranked[:few]
        if not best:
            return self._fresh(number)
        rng = seeds.generator(self._problem.seed, number)
        model = best[rng.integers(len(best))]
        return Suggestion(
            _explored(self._problem.space, model.parameters, rng),
            ALGORITHM.name,
            f"explore: a copy of {model.number}, with other parameters",
            model.number,
        )


def _explored(
    space: SearchSpace, parameters: Assignment, rng: np.random.Generator
) -> dict[str, Value]:
    """Each parameter drawn anew, or a number a step away; what begins to exist is drawn anew."""
    chosen: dict[str, Value] = {}
    for parameter in space.free:
        domain, value = parameter.domain, parameters.get(parameter.name)
        anew, step, unit = rng.random(), rng.standard_normal(), rng.random()
        if value is None or anew < _RESAMPLED:
            value = domain.from_unit(unit)
        elif isinstance(domain, FloatRange | IntRange):
            width = max(_STEP, 1.0 / domain.cardinality if domain.cardinality else 0.0)
            moved = domain.to_unit(value) + width * step
            value = domain.from_unit(min(max(moved, 0.0), 1.0))
        chosen[parameter.name] = value
    return space.assign(chosen)
