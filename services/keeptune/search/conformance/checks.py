"""What is checked. Each check takes a `Method` and raises ConformanceError at the first fault.

None of them judges how good the suggestions are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from keeptune.search.conformance import graph_checks
from keeptune.search.conformance.session import Session, require
from keeptune.search.conformance.spaces import CATEGORICAL, INTEGERS, MIXED, NUMERIC, SPACES, loss
from keeptune.search.optimizers.base import Method, Nothing, Outcome, Problem, Result
from keeptune.search.replay import Follower
from keeptune.search.space import Assignment

Check = Callable[[Method], None]

_TRIALS = 10


def suggestions_lie_in_the_space(method: Method) -> None:
    """Mixed and conditional, numeric, integer and categorical spaces."""
    for name, space in SPACES.items():
        found = Session(method, Problem(space, 3, trials=_TRIALS)).measured(_TRIALS)
        require(bool(found), f"it suggests nothing at all in the {name} space")


def one_seed_gives_the_same(method: Method) -> None:
    one, other = (Session(method, Problem(MIXED, 1, _TRIALS)).measured(_TRIALS) for _ in range(2))
    require(one == other, "with the same seed and results it suggests something else")


def another_seed_gives_others(method: Method) -> None:
    """Not for methods without chance, such as a grid."""
    one, other = (
        Session(method, Problem(MIXED, seed, _TRIALS)).measured(_TRIALS) for seed in (1, -2)
    )
    require(one != other, "its suggestions do not depend on the seed")


def many_trials_may_be_under_way(method: Method) -> None:
    """Eight workers, of which always the slowest ends next: the others' results come first."""
    session = Session(method, Problem(MIXED, 1, trials=30))
    for number in range(20):
        require(session.ask(), f"it has nothing left after {number} trials")
        if len(session.running) == 8:
            session.end(number % 8)


def workers_get_different_points(method: Method) -> None:
    session = Session(method, Problem(NUMERIC, 1, trials=32))
    session.measured(8)
    before = len(session.suggested)
    for _ in range(4):
        if not session.ask():
            return
    points = {tuple(each.items()) for each in session.suggested[before:]}
    require(len(points) > 1, "trials suggested without a result in between are all the same")


def results_come_in_any_order(method: Method) -> None:
    session = Session(method, Problem(INTEGERS, 1, trials=16))
    for _ in range(2):
        for _ in range(4):
            session.ask()
        while session.running:
            session.end(-1)
    session.ask()


def broken_and_infeasible_trials_do_no_harm(method: Method) -> None:
    session = Session(method, Problem(MIXED, 1, trials=30))
    outcomes = [Outcome.INFEASIBLE, Outcome.FAILED, Outcome.MEASURED]
    for number in range(15):
        require(session.ask(), f"it has nothing left after {number} trials")
        session.end(0, outcomes[number % 3])


def nothing_but_bad_news_does_no_harm(method: Method) -> None:
    for outcome in (Outcome.INFEASIBLE, Outcome.FAILED):
        session = Session(method, Problem(MIXED, 2, trials=12))
        for number in range(12):
            require(session.ask(), f"it has nothing left after {number} trials")
            session.end(0, outcome)


def it_goes_on_beyond_the_plan(method: Method) -> None:
    """A budget can be raised; only who has tried every point may have nothing left."""
    for space in (NUMERIC, CATEGORICAL):
        _require_all(method, Problem(space, 1, trials=6), 12)


def it_needs_no_plan(method: Method) -> None:
    """A study may be limited by time alone."""
    for space in (INTEGERS, CATEGORICAL):
        _require_all(method, Problem(space, 1), 12)


def results_never_asked_for_are_welcome(method: Method) -> None:
    """From other studies, before the first trial and among them; also of unlike parameters."""
    known = [
        Result(-i, MIXED.at({"x": i / 6, "kind": i / 6}), Outcome.MEASURED, (float(i),))
        for i in range(1, 6)
    ]
    session = Session(method, Problem(MIXED, 1, trials=16), known)
    for i in range(4):
        session.measured(2)
        session.add(MIXED.at({"x": i / 4, "bias": 0.9}))
        require(session.ask(), "it has nothing left")
        session.end_elsewhere(MIXED.at({"x": 0.5 - i / 10, "depth": 0.3}))
    session.interrupt()
    require(session.ask(), "it has nothing left")


def several_objectives_and_constraints(method: Method) -> None:
    """Not for those that do not claim to know them."""
    session = Session(
        method,
        Problem(
            MIXED,
            1,
            trials=20,
            objectives=2 if method.algorithm.multi_objective else 1,
            constraints=1 if method.algorithm.constraints else 0,
        ),
    )
    found = session.measured(13)
    require(len(found) == 13, f"it has nothing left after {len(found)} trials")


def objectives_of_any_number(method: Method) -> None:
    """With trials under way, and one that cannot be evaluated; rebuilt from its history it goes on
    the same. Not for those that do not claim to know several."""
    if not method.algorithm.multi_objective:
        return
    for objectives in (2, 3):
        found = []
        for interrupted in (False, True):
            session = Session(method, Problem(MIXED, 1, trials=16, objectives=objectives))
            session.measured(5)
            for _ in range(2):
                require(session.ask(), f"it has nothing left with {objectives} objectives")
            session.end(-1, Outcome.INFEASIBLE)
            if interrupted:
                session.interrupt()
            session.measured(2)
            found.append(session.suggested)
        require(
            found[0] == found[1],
            f"rebuilt from its history it suggests something else for {objectives} objectives: "
            f"{_first_difference(*found)}",
        )


def constraints_that_nothing_keeps(method: Method) -> None:
    """Not for those that do not claim to know them."""
    if not method.algorithm.constraints:
        return
    session = _Infeasible(method, Problem(MIXED, 1, trials=16, constraints=2))
    require(len(session.measured(9)) == 9, "it gives up while no trial is feasible")


def an_interrupted_study_goes_on_the_same(method: Method) -> None:
    """Any order of events, rebuilt from the history at any time, gives the same suggestions."""
    for seed in range(2):
        events = _events(random.Random(seed))
        undisturbed = _played(method, seed, events, interrupted_at=())
        rng = random.Random(100 + seed)
        at = {rng.randrange(len(events)) for _ in range(3)}
        found = _played(method, seed, events, at)
        require(
            found == undisturbed,
            f"rebuilt from its history before events {sorted(at)} of {events} it suggests "
            f"something else: {_first_difference(undisturbed, found)}",
        )


def nothing_to_suggest_changes_nothing(method: Method) -> None:
    """An `ask` that gave Nothing may be repeated, or not, without a difference."""
    problem = Problem(CATEGORICAL, 1, trials=4)
    patient, eager = (Follower(method.make(problem)) for _ in range(2))
    for number in range(1, 8):
        one, why = patient.suggest(1)
        other, _ = eager.suggest(1)
        require(one == other, f"an ask that gave nothing changed trial {number}")
        if why is Nothing.LEFT or not one:
            return
        for _ in range(2):
            if eager.suggest(1)[0]:
                # It hands out further trials: there is nothing to repeat.
                return
        result = _measured(number, one[0].suggestion.parameters)
        patient.catch_up((), [result])
        eager.catch_up((), [result])


def the_global_random_states_are_left_alone(method: Method) -> None:
    """They are others' too; the numbers come from the problem's seed."""
    before = _global_states()
    Session(method, Problem(MIXED, 1, trials=_TRIALS)).measured(_TRIALS)
    require(_global_states() == before, "it draws from, or seeds, a global random generator")


CHECKS: tuple[Check, ...] = (
    suggestions_lie_in_the_space,
    one_seed_gives_the_same,
    another_seed_gives_others,
    many_trials_may_be_under_way,
    workers_get_different_points,
    results_come_in_any_order,
    broken_and_infeasible_trials_do_no_harm,
    nothing_but_bad_news_does_no_harm,
    it_goes_on_beyond_the_plan,
    it_needs_no_plan,
    results_never_asked_for_are_welcome,
    several_objectives_and_constraints,
    objectives_of_any_number,
    constraints_that_nothing_keeps,
    an_interrupted_study_goes_on_the_same,
    nothing_to_suggest_changes_nothing,
    the_global_random_states_are_left_alone,
    *graph_checks.CHECKS,
)


def name_of(check: Check) -> str:
    return check.__name__


# A suggestion, an import, or the end of a trial under way: its place, and what came of it.
_Event = str | tuple[int, Outcome]


def _events(rng: random.Random) -> list[_Event]:
    outcomes = [Outcome.MEASURED, Outcome.MEASURED, Outcome.INFEASIBLE, Outcome.FAILED]
    kinds: list[_Event] = ["suggest", "suggest", "suggest", "add"]
    kinds += [(place, outcome) for place in range(2) for outcome in outcomes[::2]]
    return ["suggest"] + [rng.choice(kinds) for _ in range(24)] + ["suggest"]


def _played(
    method: Method, seed: int, events: list[_Event], interrupted_at: set[int] | tuple[()]
) -> list[Assignment]:
    session = Session(method, Problem(MIXED, seed, trials=8))
    for i, event in enumerate(events):
        if i in interrupted_at:
            session.interrupt()
        if event == "suggest":
            session.ask()
        elif event == "add":
            session.add(MIXED.at({"x": i / 40, "kind": 0.5}))
        elif isinstance(event, tuple) and session.running:
            place, outcome = event
            session.end(place % len(session.running), outcome)
    return session.suggested


def _first_difference(one: list[Assignment], other: list[Assignment]) -> str:
    for i, (a, b) in enumerate(zip(one, other, strict=False), start=1):
        if a != b:
            return f"suggestion {i} was {dict(a)!r} and became {dict(b)!r}"
    return f"{len(one)} suggestions became {len(other)}"


def _require_all(method: Method, problem: Problem, wanted: int) -> None:
    """Fewer than `wanted` are right only where every point was tried, or a grid of them.

    A grid is the same for every seed.
    """
    found = Session(method, problem).measured(wanted)
    if len(found) == wanted:
        return
    size = problem.space.size(1000)
    if size is None:
        other = Session(method, replace(problem, seed=problem.seed + 1)).measured(wanted)
        require(found == other, f"it is no grid, and has nothing left after {len(found)} points")
    else:
        different = len({tuple(each.items()) for each in found})
        require(different == size, f"it has nothing left after {different} of {size} points")


def _global_states() -> object:
    numpy = np.random.get_state(legacy=False)["state"]
    return random.getstate(), numpy["key"].tolist(), numpy["pos"]


class _Infeasible(Session):
    """The first constraint is broken everywhere, the second kept everywhere."""

    def _result(self, number: int, parameters: Assignment, outcome: Outcome) -> Result:
        found = super()._result(number, parameters, outcome)
        return replace(found, broken=(1.0 + loss(parameters), -1.0))


def _measured(number: int, parameters: Assignment) -> Result:
    return Result(number, parameters, Outcome.MEASURED, (loss(parameters),))
