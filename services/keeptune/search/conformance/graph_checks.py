"""What methods that declare graphs keep to on spaces with graphs; nothing for the others."""

from __future__ import annotations

from keeptune.search.conformance.session import Session, require
from keeptune.search.conformance.spaces import GRAPHS
from keeptune.search.optimizers.base import Method, Outcome, Problem, Result
from keeptune.search.space import SearchSpace

_TRIALS = 24


def graphs_of_every_shape_are_searched(method: Method) -> None:
    """Beyond the plan, with trials under way, with bad news; each suggestion lies in its space."""
    outcomes = [Outcome.MEASURED, Outcome.MEASURED, Outcome.INFEASIBLE, Outcome.FAILED]
    for name, space in _spaces(method).items():
        session = Session(method, Problem(space, 1, trials=_TRIALS - 6))
        for number in range(_TRIALS):
            require(session.ask(), f"{name}: it has nothing left after {number} trials")
            if len(session.running) == 3:
                session.end(number % 3, outcomes[number % 4])


def graphs_follow_from_the_seed(method: Method) -> None:
    for name, space in _spaces(method).items():
        one, same, other = (
            Session(method, Problem(space, seed, _TRIALS)).measured(_TRIALS) for seed in (1, 1, 2)
        )
        require(one == same, f"{name}: with the same seed and results it suggests something else")
        require(one != other, f"{name}: its suggestions do not depend on the seed")
        shapes = {tuple(sorted(map(repr, each.items()))) for each in one}
        require(len(shapes) > _TRIALS // 2, f"{name}: it suggests the same again and again")


def interrupted_studies_of_graphs_go_on_the_same(method: Method) -> None:
    for name, space in _spaces(method).items():
        undisturbed, disturbed = (
            Session(method, Problem(space, 3, _TRIALS), _known(space)) for _ in range(2)
        )
        for number in range(_TRIALS):
            for session in (undisturbed, disturbed):
                if session is disturbed and number % 7 == 5:
                    session.interrupt()
                require(session.ask(), f"{name}: it has nothing left after {number} trials")
                if number % 5 == 2:
                    session.add(space.at({"net": number / _TRIALS}))
                if number % 9 == 4:
                    session.end_elsewhere(space.at({"net": 1 - number / _TRIALS}))
                elif len(session.running) > 2:
                    session.end(0)
        require(
            disturbed.suggested == undisturbed.suggested,
            f"{name}: rebuilt from its history it suggests something else",
        )


def graphs_know_objectives_and_constraints(method: Method) -> None:
    """Not for those that do not claim to know them."""
    for space in _spaces(method).values():
        problem = Problem(
            space,
            1,
            trials=20,
            objectives=2 if method.algorithm.multi_objective else 1,
            constraints=1 if method.algorithm.constraints else 0,
        )
        Session(method, problem).measured(14)


CHECKS = (
    graphs_of_every_shape_are_searched,
    graphs_follow_from_the_seed,
    interrupted_studies_of_graphs_go_on_the_same,
    graphs_know_objectives_and_constraints,
)


def _spaces(method: Method) -> dict[str, SearchSpace]:
    return GRAPHS if method.algorithm.graphs else {}


def _known(space: SearchSpace) -> list[Result]:
    return [
        Result(-i, space.at({"net": i / 5}), Outcome.MEASURED, (float(i),)) for i in range(1, 4)
    ]
