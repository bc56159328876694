"""Any optimiser registered with Nevergrad, by name: `nevergrad/<Name>`.

Nevergrad's optimisers cannot be stored (many cannot even be pickled), but they can be repeated,
which needs some care:

- Most draw from `parametrization.random_state`, but some, and the libraries below them, draw from
  the global states of `numpy.random` and `random`. So each optimiser has global states of its own,
  put in place while it computes. That is why only one of them computes at a time (see `_Turn`).
- Those that wrap another library's optimiser, maybe deep inside a portfolio, run it on a thread of
  its own, which goes on after a `tell` and would wait for ever if asked twice without one. So
  results are handed over at the next `ask`, which waits for the thread, and while there is such a
  thread only one trial is under way.
- Some of the registered optimisers are drawn by chance when the module is imported. So it is
  imported under a fixed seed, and what stands in the way of repeating is mended (see `_mend`).

Parameters are coordinates in [0, 1], categorical ones a `Choice`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import random
import threading
import time
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from keeptune.search.space import Assignment

PREFIX = "nevergrad/"
_SOURCE = "Rapin and Teytaud, Nevergrad, 2018, https://github.com/facebookresearch/nevergrad"
# For those that plan ahead, when nobody knows how many trials there will be.
_ASSUMED_TRIALS = 100
_OVER_BUDGET = "Over the budget"
# Tells the seed of the global states from that of any round.
_GLOBAL_STATE = 2**32
_SETTLE_SECONDS = 120.0
_REHEARSED = 3


@functools.cache
def library() -> types.ModuleType:
    """The nevergrad module; importing it takes seconds, so it is put off until it is needed."""
    with _Turn(seeds.legacy(0)).taken(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nevergrad

        _mend()
    # They are for whoever writes the loop around an optimiser, and come with every step.
    warnings.filterwarnings("ignore", category=nevergrad.errors.NevergradWarning)
    warnings.filterwarnings("ignore", module=r"(nevergrad|cma|sklearn|scipy)\b")
    module: types.ModuleType = nevergrad
    return module


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
        _rehearse(NevergradSearch(name, problem))
    except Exception as error:
        raise InvalidInput(
            field=field,
            problem=f"is {PREFIX + name!r}, which cannot work on this study: {_reason(error)}",
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
        self._turn = _Turn(seeds.legacy(problem.seed, _GLOBAL_STATE))
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
        threads = _threads(self._optimizer)
        if (self._one_at_a_time or threads) and len(self._asked) > len(self._answered()):
            return Nothing.YET
        try:
            with self._turn.taken():
                self._hand_over(lockstep=self._one_at_a_time or bool(threads))
                _settle(threads)
                candidate = self._asked_within_budget()
        except Exception as error:  # whatever it raises means that it cannot go on
            raise FailedPrecondition(
                f"{self.name} cannot go on after {number - 1} trials: {_reason(error)}",
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


class _Turn:
    """Global random states of one's own, in place while one has the turn."""

    _lock = threading.Lock()

    def __init__(self, rng: np.random.RandomState) -> None:
        self._numpy: Any = rng.get_state()
        self._python: Any = random.Random(int(rng.randint(2**31))).getstate()

    @contextmanager
    def taken(self) -> Iterator[None]:
        with self._lock:
            numpy_before, python_before = np.random.get_state(), random.getstate()
            np.random.set_state(self._numpy)
            random.setstate(self._python)
            try:
                yield
            finally:
                self._numpy, self._python = np.random.get_state(), random.getstate()
                np.random.set_state(numpy_before)
                random.setstate(python_before)


def _mend() -> None:
    """Small repairs of nevergrad 1.0.12 and cma 4.5, where they meet newer libraries or servers."""
    import cma
    from nevergrad.optimization import metamodel, recaster

    class DaemonThread(recaster._MessagingThread):  # type: ignore[misc]
        """Does not keep a server from ending."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.daemon = True

    recaster._MessagingThread = DaemonThread
    # numpy 2.4 makes a scalar of an array without dimensions only; these have one, of length 1.
    metamodel.float = lambda value: float(np.asarray(value).item())
    # By default cma seeds numpy's global state by the time of day.
    cma.CMAOptions.defaults()["seed"] = math.nan


def _rehearse(search: NevergradSearch) -> None:
    """A few steps, in which packages that are missing show."""
    objectives = search.problem.objectives
    for number in range(1, _REHEARSED + 1):
        answer = search.ask(number)
        assert isinstance(answer, Suggestion)
        losses = (1.0 / number,) * objectives
        search.tell(Result(number, answer.parameters, Outcome.MEASURED, losses))


def _threads(optimizer: Any) -> list[Any]:
    """The threads of wrapped optimisers, however deep they lie in this one."""
    base = library().optimizers.base.Optimizer
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [optimizer]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, base) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(vars(value).values())
            thread = getattr(value, "_messaging_thread", None)
            if thread is not None:
                found.append(thread)
    return found


def _settle(threads: list[Any]) -> None:
    """Waits until each thread has ended, or has its next point ready and waits for the result."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    for thread in threads:
        while thread.is_alive() and thread.messages_ask.empty():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no point after {_SETTLE_SECONDS:.0f} s of computing")
            time.sleep(0.0002)


def _reason(error: BaseException) -> str:
    if isinstance(error, ImportError) and error.name:
        return f"it needs the Python package {error.name!r}, which is not installed"
    return " ".join(str(error).split()) or type(error).__name__


def _description(kind: Any) -> str:
    text = inspect.getdoc(kind if inspect.isclass(kind) else type(kind)) or ""
    return " ".join(text.split("\n\n")[0].split())[:300]
