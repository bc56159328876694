"""`AsyncTrial` and `AsyncStudy` for programs without an event loop. The work is done there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeAlias

from keeptune.client.async_study import AsyncStudy, default_worker
from keeptune.client.async_trial import AsyncTrial
from keeptune.client.early_failures import GIVE_UP_AFTER, EarlyFailures
from keeptune.client.insight import Dependence, Importance, Outlook
from keeptune.client.loop_thread import LoopThread
from keeptune.client.results import Front, StudyEvent, StudyStatus, TrialResult
from keeptune.client.values import Value


class Trial:
    """Parameters to try, leased to this worker until it says how it went.

    The lease is renewed in the background while the work goes on. As a context manager it turns
    an exception of the work into a failed trial: it is logged, not raised.
    """

    def __init__(self, inner: AsyncTrial, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
        self.name = inner.name
        self.parameters: dict[str, Any] = inner.parameters
        # The trial whose checkpoint to load before training; empty = begin anew ("pbt").
        self.continue_from = inner.continue_from

    @property
    def number(self) -> int:
        """Counted from 1 within the study."""
        return self._inner.number

    @property
    def should_stop(self) -> bool:
        """Whether going on is pointless: pruned, the study was stopped, or the lease was lost."""
        return self._inner.should_stop

    @property
    def lost(self) -> bool:
        """Whether the trial passed to another worker; what this one says no longer counts."""
        return self._inner.lost

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self._inner.settled

    def report(
        self, step: int, metrics: Mapping[str, float] | None = None, /, **named: float
    ) -> bool:
        """Intermediate values at a step (epochs, or any other measure that grows).

        False = stop here: it will not win, or the study was stopped, or the lease was lost.
        `metrics` is for names that are no Python names, such as "val/accuracy".
        """
        return self._loop.run(self._inner.report(step, metrics, **named))

    def complete(self, metrics: Mapping[str, float] | None = None, /, **named: float) -> bool:
        """Ends the trial with its final values; without any, those of the last report.

        A trial that was told to stop ends as pruned, with its last report. False = it came too
        late (the lease was lost) and changed nothing. Raises InvalidInput for values that are not
        finite or when an objective is missing.
        """
        return self._loop.run(self._inner.complete(metrics, **named))

    def infeasible(self, reason: str = "") -> bool:
        """Ends the trial: these parameters cannot be evaluated, and the algorithm learns it."""
        return self._loop.run(self._inner.infeasible(reason))

    def failed(self, reason: str = "") -> bool:
        """Ends the trial: it broke for a reason that lies outside the parameters."""
        return self._loop.run(self._inner.failed(reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self.leave(error)

    def fail(self, error: Exception) -> bool:
        """`failed`, with what was raised for its reason."""
        return self._loop.run(self._inner.fail(error))

    def leave(self, error: BaseException | None) -> bool:
        """Ends the work on it; whether `error` is dealt with."""
        return self._loop.run(self._inner.leave(error))

    def settle(self) -> None:
        """Gives it an outcome if it has none: pruned if it was told to stop, else failed."""
        self._loop.run(self._inner.settle())

    def release(self) -> None:
        """No longer keeps the lease; when it has run out the trial goes to whoever asks."""
        self._loop.run(self._inner.release())


Objective: TypeAlias = Callable[[Trial], float | Mapping[str, float] | None]


class Study:
    """Made by `Client.create_study` and `Client.study`."""

    def __init__(self, inner: AsyncStudy, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
        self.name = inner.name
        self.objectives = inner.objectives

    @property
    def id(self) -> str:
        """The name without `studies/`."""
        return self._inner.id

    def trials(self, worker: str = "") -> Iterator[Trial]:
        """Trials to work on, one after the other, until the study has no more to give.

        `worker` is a name of your choice, unique among those who work at the same time; one that
        comes back with the same name after a crash gets its unfinished trial again. Waits while
        other workers hold the last trials, which come back if they die. Outlasts a service that
        is away for as long as the client's `patience`.
        """
        for trial in self._loop.iterate(self._inner.trials(worker)):
            yield Trial(trial, self._loop)

    def optimize(
        self,
        objective: Objective,
        *,
        n_workers: int = 1,
        worker: str = "",
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        """Works on trials until there are no more: `objective(trial)` gives the final value.

        It returns the objective's value, a mapping of metrics, or None when it completed the
        trial itself. One worker runs it here, several each in a thread of its own; they are called
        `worker`-1, -2, ...

        An exception fails the trial. When the first `give_up_after` trials have all failed alike
        the objective is broken: FailedPrecondition, and the rest of the budget is left (0 = never).
        """
        early = EarlyFailures(give_up_after)
        names = [f"{worker or default_worker()}-{index}" for index in range(1, n_workers + 1)]
        if n_workers == 1:
            self._work(objective, names[0], early)
            return
        with ThreadPoolExecutor(n_workers, thread_name_prefix="keeptune-worker") as pool:
            for done in [pool.submit(self._work, objective, name, early) for name in names]:
                done.result()

    def _work(self, objective: Objective, worker: str, early: EarlyFailures) -> None:
        for trial in self.trials(worker):
            with trial:
                try:
                    outcome = objective(trial)
                except Exception as error:
                    if trial.settled:
                        raise
                    early.failed(trial.name, error)
                    trial.fail(error)
                    early.check(error)
                    continue
                early.succeeded()
                if not trial.settled and outcome is not None:
                    trial.complete(self.metrics_of(outcome))

    def metrics_of(self, outcome: float | Mapping[str, float]) -> Mapping[str, float]:
        """What an objective returned, by metric; a number is the value of the first objective."""
        return self._inner.metrics_of(outcome)

    @property
    def best(self) -> TrialResult:
        """The best trial so far. Raises NotFound while none has completed."""
        return self._loop.run(self._inner.best)

    def optimal(self) -> list[TrialResult]:
        """The best trial, or the Pareto set when there are several objectives."""
        return self._loop.run(self._inner.optimal())

    def front(self, reference_point: Sequence[float] | None = None) -> Front:
        """The Pareto set and its hypervolume up to a reference point.

        By default that lies behind the worst of the set in each objective, by a tenth of what the
        set spans there; give one, a value of each objective, to compare studies.
        """
        return self._loop.run(self._inner.front(reference_point))

    def results(
        self,
        *,
        filter: str = "",  # noqa: A002
        order_by: str = "",
        history: bool = False,
    ) -> list[TrialResult]:
        """All trials, or those that e.g. `state = COMPLETED AND metrics.accuracy > 0.9` names.

        `order_by` is e.g. `metrics.accuracy desc`; with `history` the intermediate reports come
        along.
        """
        return self._loop.run(
            self._inner.results(filter=filter, order_by=order_by, history=history)
        )

    def importance(self, *, metric: str = "") -> Importance:
        """Which parameters matter, with 80 % intervals; for the first objective by default.

        Raises FailedPrecondition while too few trials have completed.
        """
        return self._loop.run(self._inner.importance(metric=metric))

    def dependence(self, *parameters: str, metric: str = "", points: int = 0) -> Dependence:
        """How the metric follows one parameter, or two, all others averaged.

        `points` is at how many values of each (0 = 20 of one, 10 of two). Raises
        FailedPrecondition while too few trials have completed.
        """
        return self._loop.run(self._inner.dependence(*parameters, metric=metric, points=points))

    def outlook(
        self, *, metric: str = "", trials: int = 0, tolerance: float | None = None
    ) -> Outlook:
        """Whether so many further trials will help (0 = what is left of the budget).

        An improvement by no more than `tolerance` counts as none; by default that is a hundredth
        of the distance from the best to the median. Raises FailedPrecondition while too few trials
        have completed.
        """
        return self._loop.run(
            self._inner.outlook(metric=metric, trials=trials, tolerance=tolerance)
        )

    def status(self) -> StudyStatus:
        """How the study stands now."""
        return self._loop.run(self._inner.status())

    def watch(self, *, revision: int = 0) -> Iterator[StudyEvent]:
        """Every event after `revision`, then live, for ever; outlasts restarts of the service."""
        return self._loop.iterate(self._inner.watch(revision=revision))

    def add(self, parameters: Mapping[str, Value], **metrics: float) -> TrialResult:
        """Imports a result that is known already; the algorithm learns from it."""
        return self._loop.run(self._inner.add(parameters, **metrics))

    def stop(self, reason: str = "") -> StudyStatus:
        """No more suggestions; running trials may still complete."""
        return self._loop.run(self._inner.stop(reason))

    def delete(self) -> None:
        """Removes the study and its trials for good."""
        self._loop.run(self._inner.delete())
