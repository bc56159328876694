"""A study: what its workers, and those who read its results, need."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import secrets
import socket
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, TypeAlias

from keeptune.client import insight, results, values
from keeptune.client.async_trial import AsyncTrial
from keeptune.client.early_failures import GIVE_UP_AFTER, EarlyFailures
from keeptune.client.insight import Dependence, Importance, Outlook
from keeptune.client.persistence import persist, resume
from keeptune.client.results import Front, StudyEvent, StudyStatus, TrialResult
from keeptune.runtime.convert import from_duration
from keeptune.runtime.errors import NotFound
from keeptune.v1 import search_pb2, types_pb2

if TYPE_CHECKING:
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub

_LEASE_SECONDS = 60.0
_PAGE = 1000

AsyncObjective: TypeAlias = Callable[
    [AsyncTrial], Awaitable[float | Mapping[str, float] | None] | float | Mapping[str, float] | None
]


class AsyncStudy:
    """Made by `AsyncClient.create_study` and `AsyncClient.study`."""

    def __init__(
        self, search: SearchServiceAsyncStub, message: search_pb2.Study, *, patience: float
    ) -> None:
        self.name: str = message.name
        self._search = search
        self._patience = patience
        lease = from_duration(message.lease_duration)
        self._lease_seconds = lease.total_seconds() if lease else _LEASE_SECONDS
        self.objectives: tuple[str, ...] = tuple(
            metric.name
            for metric in message.metrics
            if metric.role in (search_pb2.METRIC_ROLE_OBJECTIVE, search_pb2.METRIC_ROLE_UNSPECIFIED)
        )

    @property
    def id(self) -> str:
        """The name without `studies/`."""
        return self.name.removeprefix("studies/")

    # --- work ---

    async def trials(self, worker: str = "") -> AsyncIterator[AsyncTrial]:
        """Trials to work on, one after the other, until the study has no more to give.

        `worker` is a name of your choice, unique among those who work at the same time; one that
        comes back with the same name after a crash gets its unfinished trial again. Waits while
        other workers hold the last trials, which come back if they die. Outlasts a service that
        is away for as long as the client's `patience`.
        """
        request = search_pb2.SuggestTrialsRequest(
            study=self.name, worker=worker or default_worker(), count=1
        )
        while True:
            answer = await persist(
                lambda: self._search.SuggestTrials(request), patience=self._patience
            )
            if not answer.trials:
                if answer.study_state != search_pb2.STUDY_STATE_ACTIVE:
                    return
                pause = from_duration(answer.retry_after)
                await asyncio.sleep(pause.total_seconds() if pause else 1.0)
                continue
            trial = AsyncTrial(
                self._search,
                answer.trials[0],
                lease_seconds=self._lease_seconds,
                patience=self._patience,
            )
            try:
                yield trial
                await trial.settle()
            finally:
                await trial.release()

    async def optimize(
        self,
        objective: AsyncObjective,
        *,
        n_workers: int = 1,
        worker: str = "",
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        """Works on trials until there are no more: `objective(trial)` gives the final value.

        It may be a coroutine function or a plain one, which runs in a thread; it returns the
        objective's value, a mapping of metrics, or None when it completed the trial itself. The
        workers are called `worker`-1, -2, ...

        An exception fails the trial. When the first `give_up_after` trials have all failed alike
        the objective is broken: FailedPrecondition, and the rest of the budget is left (0 = never).
        """
        early = EarlyFailures(give_up_after)
        base = worker or default_worker()
        async with asyncio.TaskGroup() as group:
            for index in range(1, n_workers + 1):
                group.create_task(self._work(objective, f"{base}-{index}", early))

    async def _work(self, objective: AsyncObjective, worker: str, early: EarlyFailures) -> None:
        async for trial in self.trials(worker):
            async with trial:
                try:
                    if inspect.iscoroutinefunction(objective):
                        outcome = await objective(trial)
                    else:
                        outcome = await asyncio.to_thread(objective, trial)
                        if inspect.isawaitable(outcome):
                            outcome = await outcome
                except Exception as error:
                    if trial.settled:
                        raise
                    early.failed(trial.name, error)
                    await trial.fail(error)
                    early.check(error)
                    continue
                early.succeeded()
                if not trial.settled and outcome is not None:
                    await trial.complete(self.metrics_of(outcome))

    def metrics_of(self, outcome: float | Mapping[str, float]) -> Mapping[str, float]:
        """What an objective returned, by metric; a number is the value of the first objective."""
        return outcome if isinstance(outcome, Mapping) else {self.objectives[0]: outcome}

    # --- results ---

    @property
    def best(self) -> Coroutine[Any, Any, TrialResult]:
        """The best trial so far; await it. Raises NotFound while none has completed."""
        return self._best()

    async def _best(self) -> TrialResult:
        front = await self.optimal()
        if not front:
            raise NotFound(
                f"no trial of {self.name} has completed",
                fix="work on its trials first; keeptune trial list shows how they stand",
                reason="NO_COMPLETED_TRIAL",
            )
        return front[0]

    async def optimal(self) -> list[TrialResult]:
        """The best trial, or the Pareto set when there are several objectives."""
        answer = await self._search.ListOptimalTrials(
            search_pb2.ListOptimalTrialsRequest(parent=self.name)
        )
        return [results.trial(each) for each in answer.trials]

    async def front(self, reference_point: Sequence[float] | None = None) -> Front:
        """The Pareto set and its hypervolume up to a reference point.

        By default that lies behind the worst of the set in each objective, by a tenth of what the
        set spans there; give one, a value of each objective, to compare studies.
        """
        answer = await self._search.ListOptimalTrials(
            search_pb2.ListOptimalTrialsRequest(
                parent=self.name, reference_point=reference_point or ()
            )
        )
        volume = answer.hypervolume
        return Front(
            objectives=self.objectives,
            trials=tuple(results.trial(each) for each in answer.trials),
            hypervolume=volume.value if volume.HasField("value") else None,
            reference_point=tuple(volume.reference_point),
        )

    async def results(
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
        found: list[TrialResult] = []
        token = ""
        while True:
            page = await self._search.ListTrials(
                search_pb2.ListTrialsRequest(
                    parent=self.name,
                    page_size=_PAGE,
                    page_token=token,
                    filter=filter,
                    order_by=order_by,
                    include_measurements=history,
                )
            )
            found += [results.trial(each) for each in page.trials]
            token = page.next_page_token
            if not token:
                return found

    async def importance(self, *, metric: str = "") -> Importance:
        """Which parameters matter, with 80 % intervals; for the first objective by default.

        Raises FailedPrecondition while too few trials have completed.
        """
        request = search_pb2.GetParameterImportanceRequest(study=self.name, metric=metric)
        return insight.importance(await self._search.GetParameterImportance(request))

    async def dependence(self, *parameters: str, metric: str = "", points: int = 0) -> Dependence:
        """How the metric follows one parameter, or two, all others averaged.

        `points` is at how many values of each (0 = 20 of one, 10 of two). Raises
        FailedPrecondition while too few trials have completed.
        """
        request = search_pb2.GetPartialDependenceRequest(
            study=self.name, parameters=parameters, metric=metric, points=points
        )
        return insight.dependence(await self._search.GetPartialDependence(request))

    async def outlook(
        self, *, metric: str = "", trials: int = 0, tolerance: float | None = None
    ) -> Outlook:
        """Whether so many further trials will help (0 = what is left of the budget).

        An improvement by no more than `tolerance` counts as none; by default that is a hundredth
        of the distance from the best to the median. Raises FailedPrecondition while too few trials
        have completed.
        """
        request = search_pb2.GetStudyOutlookRequest(
            study=self.name, metric=metric, trials=trials, tolerance=tolerance
        )
        return insight.outlook(await self._search.GetStudyOutlook(request))

    async def status(self) -> StudyStatus:
        """How the study stands now."""
        return results.study(
            await self._search.GetStudy(search_pb2.GetStudyRequest(name=self.name))
        )

    async def watch(self, *, revision: int = 0) -> AsyncIterator[StudyEvent]:
        """Every event after `revision`, then live, for ever; outlasts restarts of the service."""

        def events(after: int) -> AsyncIterable[search_pb2.WatchStudyResponse]:
            return self._search.WatchStudy(
                search_pb2.WatchStudyRequest(study=self.name, revision=after),
                wait_for_ready=False,
            )

        async for event in resume(events, revision=revision, patience=self._patience):
            yield results.study_event(event)

    # --- changes ---

    async def add(self, parameters: Mapping[str, values.Value], **metrics: float) -> TrialResult:
        """Imports a result that is known already; the algorithm learns from it."""
        trial = search_pb2.Trial(
            parameters={
                name: values.to_message(value, field=f"parameters.{name}")
                for name, value in parameters.items()
            },
            state=search_pb2.TRIAL_STATE_COMPLETED,
            final_measurement=types_pb2.Measurement(metrics=metrics),
        )
        answer = await self._search.AddTrials(
            search_pb2.AddTrialsRequest(study=self.name, trials=[trial])
        )
        return results.trial(answer.trials[0])

    async def stop(self, reason: str = "") -> StudyStatus:
        """No more suggestions; running trials may still complete."""
        return results.study(
            await self._search.StopStudy(search_pb2.StopStudyRequest(name=self.name, reason=reason))
        )

    async def delete(self) -> None:
        """Removes the study and its trials for good."""
        await self._search.DeleteStudy(search_pb2.DeleteStudyRequest(name=self.name))


def default_worker() -> str:
    """A name that nobody else has: this machine, this process, and chance."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).lstrip(".-") or "worker"
    return f"{host[:80]}-{os.getpid()}-{secrets.token_hex(3)}"
