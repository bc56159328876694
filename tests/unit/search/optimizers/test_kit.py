"""The conformance kit finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keeptune.search import conformance
from keeptune.search.conformance import checks
from keeptune.search.optimizers.base import (
    Algorithm,
    Method,
    Nothing,
    Optimizer,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.random_search import RandomSearch
from keeptune.search.space import Assignment


class Honest(RandomSearch):
    """A right one, for others to spoil."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.pending = 0
        self.told = 0

    def tell(self, result: Result) -> None:
        self.told += 1
        self.pending -= 1


class Outside(Honest):
    def ask(self, number: int) -> Suggestion:
        return Suggestion({**super().ask(number).parameters, "momentum": 0.9}, "outside")


class Numpys(Honest):
    def ask(self, number: int) -> Suggestion:
        parameters = super().ask(number).parameters
        return Suggestion(
            {n: np.float64(v) if type(v) is float else v for n, v in parameters.items()}, "numpy"
        )


class Unseeded(Honest):
    count = 0

    def ask(self, number: int) -> Suggestion:
        Unseeded.count += 1
        return super().ask(Unseeded.count)


class Deaf(Honest):
    def __init__(self, problem: Problem) -> None:
        super().__init__(Problem(problem.space, 0))


class Waiting(Honest):
    def ask(self, number: int) -> Suggestion | Nothing:  # type: ignore[override]
        return Nothing.YET


class Tired(Honest):
    def ask(self, number: int) -> Suggestion | Nothing:  # type: ignore[override]
        return Nothing.LEFT if number > 6 else super().ask(number)


class TiredOfMany(Honest):
    """Gives up where there is no end of points, though it is no grid."""

    def ask(self, number: int) -> Suggestion | Nothing:  # type: ignore[override]
        many = self.problem.space.size(1000) is None
        return Nothing.LEFT if many and number > 6 else super().ask(number)


class Stubborn(Honest):
    def ask(self, number: int) -> Suggestion:
        return super().ask(self.told)


class Strict(Honest):
    """Has no use for what it did not ask for."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._asked: dict[int, Assignment] = {}

    def ask(self, number: int) -> Suggestion:
        answer = super().ask(number)
        self._asked[number] = answer.parameters
        return answer

    def tell(self, result: Result) -> None:
        del self._asked[result.number]

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._asked[number] = parameters


class Greedy(Honest):
    """Takes for granted that every result has a loss."""

    def tell(self, result: Result) -> None:
        min(result.losses)


class Forgetful(Honest):
    """Has a state that it does not adopt."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._asks = 0

    def ask(self, number: int) -> Suggestion:
        self._asks += 1
        return super().ask(self._asks)


class Global(Honest):
    def ask(self, number: int) -> Suggestion:
        np.random.seed(number)
        return super().ask(number)


class Impatient(Honest):
    """Asked in vain it goes on counting."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._asks = 0
        self._free = True

    def ask(self, number: int) -> Suggestion | Nothing:  # type: ignore[override]
        self._asks += 1
        if not self._free:
            return Nothing.YET
        self._free = False
        return super().ask(self._asks)

    def tell(self, result: Result) -> None:
        self._free = True


SPOILT: list[tuple[type[Honest], checks.Check]] = [
    (Outside, checks.suggestions_lie_in_the_space),
    (Numpys, checks.suggestions_lie_in_the_space),
    (Unseeded, checks.one_seed_gives_the_same),
    (Deaf, checks.another_seed_gives_others),
    (Waiting, checks.many_trials_may_be_under_way),
    (Tired, checks.many_trials_may_be_under_way),
    (Stubborn, checks.workers_get_different_points),
    (Greedy, checks.broken_and_infeasible_trials_do_no_harm),
    (Greedy, checks.nothing_but_bad_news_does_no_harm),
    (Tired, checks.it_goes_on_beyond_the_plan),
    (TiredOfMany, checks.it_goes_on_beyond_the_plan),
    (Tired, checks.it_needs_no_plan),
    (TiredOfMany, checks.it_needs_no_plan),
    (Tired, checks.several_objectives_and_constraints),
    (Strict, checks.results_never_asked_for_are_welcome),
    (Forgetful, checks.an_interrupted_study_goes_on_the_same),
    (Impatient, checks.nothing_to_suggest_changes_nothing),
    (Global, checks.the_global_random_states_are_left_alone),
]


def method(make: Callable[[Problem], Optimizer]) -> Method:
    return Method(Algorithm("tried", "", "", multi_objective=True, constraints=True), make)


@pytest.mark.parametrize(("kind", "check"), SPOILT)
def test_a_fault_is_found(kind: type[Honest], check: checks.Check) -> None:
    with pytest.raises((conformance.ConformanceError, KeyError, ValueError)) as found:
        check(method(kind))
    assert str(found.value)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
def test_a_right_one_passes(check: checks.Check) -> None:
    check(method(Honest))


def test_it_runs_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from keeptune.search.optimizers.base import Algorithm, Method\n"
        "from keeptune.search.optimizers.random_search import RandomSearch\n"
        "from keeptune.search.optimizers.grid import GridSearch\n"
        'RIGHT = Method(Algorithm("right", "", ""), RandomSearch)\n'
        'WRONG = Method(Algorithm("wrong", "", ""), GridSearch)\n'
    )

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "keeptune.search.conformance", f"mine:{name}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    right = run("RIGHT")
    assert right.returncode == 0, right.stderr
    assert len(right.stdout.splitlines()) == len(conformance.CHECKS)
    wrong = run("WRONG")
    assert wrong.returncode == 1
    assert "FAULT another_seed_gives_others" in wrong.stdout
