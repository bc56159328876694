"""An optimiser tried out on a study's problem, before the study relies on it."""

from __future__ import annotations

from keeptune.search.optimizers.base import Optimizer, Outcome, Problem, Result, Suggestion

_STEPS = 3


def rehearse(optimizer: Optimizer, problem: Problem) -> None:
    """A few steps, in which packages that are missing show. Raises whatever it raises."""
    for number in range(1, _STEPS + 1):
        answer = optimizer.ask(number)
        if not isinstance(answer, Suggestion):
            break
        losses = (1.0 / number,) * problem.objectives
        broken = (0.0,) * problem.constraints
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, losses, broken))


def reason(error: BaseException) -> str:
    """What went wrong at first, beneath what was made of it on its way."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ImportError) and error.name:
        return f"it needs the Python package {error.name!r}, which is not installed"
    return " ".join(str(error).split()) or type(error).__name__
