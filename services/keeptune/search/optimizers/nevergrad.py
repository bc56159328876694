"""Any optimiser registered with Nevergrad, by name: `nevergrad/<Name>`.

Its optimisers cannot be stored (many cannot even be pickled), but they can be repeated; what that
takes stands in `nevergrad_library`. Results are handed over at the next `ask`, in the order they
were told, and an optimiser with threads inside has only one trial under way.

Parameters are coordinates in [0, 1], categorical ones a `Choice`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.search.domains import Categories, Value
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import (
    Algorithm,
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.nevergrad_library import Turn, library, settle, threads_of
from keeptune.search.optimizers.rehearsal import reason, rehearse
from keeptune.search.space import Assignment

PREFIX = "nevergrad/"
_SOURCE = "Rapin and Teytaud, Nevergrad, 2018, https://github.com/facebookresearch/nevergrad"
# For those that plan ahead, when nobody knows how many trials there will be.
_ASSUMED_TRIALS = 100
_OVER_BUDGET = "Over the budget"
# Tells the seed of the global states from that of any round.
_GLOBAL_STATE = 2**32


def check(name: str, problem: Problem, field: str) -> None:
    """Raises InvalidInput when the optimiser is unknown or cannot work on the problem."""
    registry = library().optimizers.registry
    if name not in registry:
        close = difflib.get_close_matches(name, registry, n=5, cutoff=0.5)
        raise InvalidInput(
            field=field,
            problem=f"is {PREFIX + name!r}, which is not registered with Nevergrad",
            fix=(
                f"did you mean {', '.join(PREFIX + match for match in close)}?"
                if close
                else "ListAlgorithms gives all names"
            ),
            reason="UNKNOWN_ALGORITHM",
        )
    try:
        rehearse(NevergradSearch(name, problem), problem)
    except Exception as error:
        raise InvalidInput(
            field=field,
            problem=f"is {PREFIX + name!r}, which cannot work on this study: {reason(error)}",
            fix='choose another algorithm, e.g. "auto"',
            reason="ALGORITHM_UNFIT",
        ) from error


def algorithms() -> Iterator[Algorithm]:
    """All that are registered, also those whose optional packages are missing."""
    for name, kind in sorted(library().optimizers.registry.items()):
        yield Algorithm(
            name=PREFIX + name,
            description=_description(kind),
            source=_SOURCE,
            multi_objective=True,
            constraints=True,
            parallel=not kind.no_parallelization,
        )


class NevergradSearch:
    """One of Nevergrad's optimisers behind our interface."""

    def __init__(self, name: str, problem: Problem) -> None:
        self.name = PREFIX + name
        self._name = name
        self.problem = problem
        self._rounds = 0
        self._turn = Turn(seeds.legacy(problem.seed, _GLOBAL_STATE))
        self._asked: dict[int, tuple[Any, Assignment]] = {}
        self._results: list[Result] = []
        self._worst: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._best: np.ndarray[Any, np.dtype[np.float64]] | None = None
        kind = library().optimizers.registry[name]
        with self._turn.taken():
            self._one_at_a_time = bool(kind.no_parallelization)
            try:
                self._optimizer = self._make(kind)
            except (ValueError, AssertionError):
                if self._one_at_a_time:
                    raise
                # Some say only when they are made that they cannot have several trials under way.
                self._one_at_a_time = True
                self._optimizer = self._make(kind)

    def ask(self, number: int) -> Suggestion | Nothing:
        threads = threads_of(self._optimizer)
        if (self._one_at_a_time or threads) and len(self._asked) > len(self._answered()):
            return Nothing.YET
        try:
            with self._turn.taken():
                self._hand_over(lockstep=self._one_at_a_time or bool(threads))
                settle(threads)
                candidate = self._asked_within_budget()
        except Exception as error:  # whatever it raises means that it cannot go on
            raise FailedPrecondition(
                f"{self.name} cannot go on after {number - 1} trials: {reason(error)}",
                fix="create a study with another algorithm that warm-starts from this one",
                reason="ALGORITHM_FAILED",
            ) from error
        parameters = self.problem.space.assign(self._choices(candidate.value))
        self._asked[number] = candidate, parameters
        return Suggestion(parameters, self.name)

    def tell(self, result: Result) -> None:
        self._results.append(result)

    def _make(self, kind: Any) -> Any:
        parametrization = self._parametrization()
        parametrization.random_state = seeds.legacy(self.problem.seed, self._rounds)
        return kind(
            parametrization,
            budget=self.problem.trials or _ASSUMED_TRIALS,
            # More than one, so that those that choose by it choose one that can have several.
            num_workers=1 if self._one_at_a_time else 2,
        )

    def _parametrization(self) -> Any:
        parameter = library().p
        return parameter.Dict(
            **{
                p.name: (
                    parameter.Choice(range(len(p.domain.options)))
                    if isinstance(p.domain, Categories)
                    else parameter.Scalar(lower=0.0, upper=1.0)
                )
                for p in self.problem.space.free
            }
        )

    def _choices(self, point: Mapping[str, Any]) -> dict[str, Value]:
        domains = self.problem.space.by_name
        choices: dict[str, Value] = {}
        for name, coordinate in point.items():
            domain = domains[name].domain
            if isinstance(domain, Categories):
                choices[name] = domain.options[int(coordinate)]
            else:
                choices[name] = domain.from_unit(min(max(float(coordinate), 0.0), 1.0))
        return choices

    def _answered(self) -> set[int]:
        return {result.number for result in self._results if result.number in self._asked}

    def _asked_within_budget(self) -> Any:
        try:
            return self._optimizer.ask()
        except (AssertionError, RuntimeError) as error:
            if _OVER_BUDGET not in str(error):
                raise
            # Those that plan all points at once have none left: another round, with other points.
            self._rounds += 1
            self._optimizer = self._make(library().optimizers.registry[self._name])
            return self._optimizer.ask()

    def _hand_over(self, *, lockstep: bool) -> None:
        """Tells Nevergrad what has been told to us, in the same order.

        In lockstep each point asked for must get an answer.
        """
        results, self._results = self._results, []
        for result in results:
            candidate, parameters = self._asked.pop(result.number, (None, None))
            losses = self._losses(result)
            if losses is None and not (lockstep and candidate is not None):
                continue
            if candidate is None or (parameters != result.parameters and not lockstep):
                candidate = self._elsewhere(result.parameters)
            self._tell(candidate, losses, result)

    def _tell(self, candidate: Any, losses: Any, result: Result) -> None:
        if losses is None:
            losses = self._penalty()
        loss = float(losses[0]) if self.problem.objectives == 1 else losses.tolist()
        broken = [by for by in result.broken if by > 0]
        try:
            if broken:
                self._optimizer.tell(candidate, loss, [max(0.0, by) for by in result.broken])
            else:
                self._optimizer.tell(candidate, loss)
        except library().errors.TellNotAskedNotSupportedError:
            # It learns from its own points only.
            return

    def _losses(self, result: Result) -> Any:
        """What to tell of a result; None for nothing."""
        if result.outcome is Outcome.FAILED:
            return None
        if result.outcome is Outcome.INFEASIBLE:
            return self._penalty()
        losses = np.asarray(result.losses, dtype=float)
        self._worst = losses if self._worst is None else np.maximum(self._worst, losses)
        self._best = losses if self._best is None else np.minimum(self._best, losses)
        return losses

    def _penalty(self) -> Any:
        """Clearly worse than the worst so far."""
        if self._worst is None or self._best is None:
            return np.full(self.problem.objectives, 1e6)
        return self._worst + np.maximum(1.0, self._worst - self._best)

    def _elsewhere(self, parameters: Assignment) -> Any:
        """A candidate at parameters that the optimiser did not ask for."""
        point: dict[str, float] = {}
        for p in self.problem.space.free:
            value = parameters.get(p.name, p.domain.from_unit(0.5))
            if isinstance(p.domain, Categories):
                point[p.name] = p.domain.index(value)
            else:
                point[p.name] = p.domain.to_unit(value)
        return self._optimizer.parametrization.spawn_child(new_value=point)


def _description(kind: Any) -> str:
    text = inspect.getdoc(kind if inspect.isclass(kind) else type(kind)) or ""
    return " ".join(text.split("\n\n")[0].split())[:300]
