"""What is kept in memory of studies in use; all of it can be made anew from the store.

Each follower knows how far in the study's history it has come, and catches up by what happened
since. That another replica changed the study is seen by that, and a follower that has run ahead of
what became of the study is thrown away. Nothing here is durable and nothing here decides: what a
transaction finds in the store does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlalchemy import Connection

from keeptune.runtime.db import Database
from keeptune.runtime.names import study_name
from keeptune.search import history, sql_store
from keeptune.search.model import Progress, Study, TrialState, trials_left
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Nothing, Problem, Result
from keeptune.search.pareto import Front
from keeptune.search.pruning import Point, Pruning, rule_for
from keeptune.search.replay import Asked, Follower, Suggested
from keeptune.search.unit_of_work import UnitOfWork


def problem_of(study: Study) -> Problem:
    """What the study's algorithm is made for; the same at every time."""
    return Problem(
        space=study.space,
        seed=study.plan.seed,
        trials=study.plan.trials,
        objectives=len(study.objectives),
        constraints=len(study.constraints),
    )


@dataclass(frozen=True)
class _News:
    """What happened in a study since a follower looked."""

    study: Study
    progress: Progress
    left: int
    asked: list[Asked]
    results: list[Result]
    warm_start: list[Result]


class Suggestions:
    """The study's optimiser, and suggestions that wait to become trials."""

    def __init__(self, name: str, database: Database, executor: Executor) -> None:
        self._name = name
        self._database = database
        self._executor = executor
        self._lock = asyncio.Lock()
        self._follower: Follower | None = None
        self._incarnation = ""
        self._ready: dict[int, Suggested] = {}
        # Why there are no more, and for how many results that holds.
        self._nothing: tuple[Nothing, int, int] | None = None
        self._demand = 0

    @property
    def is_idle(self) -> bool:
        return not self._demand and not self._lock.locked()

    def supply(self, work: UnitOfWork) -> Suggested | Nothing | None:
        """What becomes the study's next trial; changes nothing. (See `leasing.Supply`.)"""
        progress = work.progress
        if progress.incarnation != self._incarnation:
            return None
        ready = self._ready.get(progress.trials + 1)
        if ready is not None or self._nothing is None:
            return ready
        nothing, trials, told = self._nothing
        if trials == progress.trials and (nothing is Nothing.LEFT or told == progress.told):
            return nothing
        return None

    def confirm(self, created: tuple[int, ...]) -> None:
        """These became trials."""
        for number in created:
            self._ready.pop(number, None)

    async def prepare(self, count: int) -> None:
        """Computes suggestions for all who have asked for some by now."""
        self._demand += count
        async with self._lock:
            if not self._demand:
                return
            count, self._demand = self._demand, 0
            try:
                await self._prepare(count)
            except BaseException:
                # Half-way through its history it is of no use.
                self._follower = None
                raise

    async def _prepare(self, count: int) -> None:
        news = await self._database.read(self._read)
        if self._has_diverged(news):
            self._follower = None
            news = await self._database.read(self._read)
        loop = asyncio.get_running_loop()
        ahead = len(self._ready) if self._follower is not None else 0
        computing = loop.run_in_executor(
            self._executor, self._compute, self._follower, news, min(count, news.left - ahead)
        )
        # A thread cannot be cancelled: wait for it, so that no second one uses the optimiser.
        try:
            done = await asyncio.shield(computing)
        except asyncio.CancelledError:
            await asyncio.wait([computing])
            raise
        follower, suggested, nothing = done
        if follower is not self._follower:
            self._ready = {}
        self._follower, self._incarnation = follower, news.progress.incarnation
        self._ready |= {each.number: each for each in suggested}
        self._nothing = None if nothing is None else (nothing, follower.trials, follower.told)

    def _has_diverged(self, news: _News) -> bool:
        """Whether the follower's own suggestions did not become the trials of their numbers."""
        if self._follower is None:
            return False
        return news.progress.incarnation != self._incarnation or any(
            number <= news.progress.trials for number in self._ready
        )

    def _read(self, connection: Connection) -> _News:
        follower = self._follower
        progress = sql_store.get_progress(connection, self._name)
        record = sql_store.studies.get(connection, study_name(self._name))
        # Trials before results, so that none was suggested with a result not read.
        asked = history.asked_since(connection, self._name, follower.trials if follower else 0)
        ended = history.ended_since(
            connection, self._name, record.doc, follower.told if follower else 0
        )
        return _News(
            study=record.doc,
            progress=progress,
            left=trials_left(record.doc, progress, record.create_time, self._database.clock.now()),
            asked=asked,
            results=[each.result for each in ended],
            warm_start=[] if follower else history.get_warm_start(connection, self._name),
        )

    @staticmethod
    def _compute(
        follower: Follower | None, news: _News, count: int
    ) -> tuple[Follower, list[Suggested], Nothing | None]:
        if follower is None:
            optimizer = registry.make(news.study.plan.algorithm, problem_of(news.study))
            follower = Follower(optimizer, news.warm_start)
        follower.catch_up(news.asked, news.results)
        return follower, *follower.suggest(count)


class Curves:
    """The study's learning curves, as its pruning rule sees them."""

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._incarnation = ""
        self._settings: Pruning | None = None
        self._start_again(None)

    async def verdict(self, trial: int, fresh: list[tuple[int, dict[str, float]]]) -> str:
        """Why the trial is to stop, given (step, metrics) not in the store yet; else empty."""
        study = await self._catch_up()
        if self._rule is None:
            return ""
        points: list[Point] = []
        for step, metrics in fresh:
            losses = study.losses(metrics)
            if losses is not None:
                points.append((step, losses[0]))
        return self._rule.verdict(trial, points)

    def _start_again(self, settings: Pruning | None) -> None:
        self._settings = settings
        self._rule = rule_for(settings) if settings else None
        self._measured = 0
        self._told = 0

    async def _catch_up(self) -> Study:
        study, incarnation, measured, ended = await self._database.read(self._read)
        if incarnation != self._incarnation or study.pruning != self._settings:
            self._start_again(study.pruning)
            self._incarnation = incarnation
            if self._rule is not None:
                study, _, measured, ended = await self._database.read(self._read)
        # Two calls may have read the same: what is known already is passed over.
        for each in measured:
            losses = study.losses(each.measurement.metrics)
            if each.sequence > self._measured:
                self._measured = each.sequence
                if self._rule is not None and losses is not None:
                    self._rule.observe(each.trial, each.measurement.step, losses[0])
        for end in ended:
            if end.sequence > self._told:
                self._told = end.sequence
                if self._rule is not None:
                    self._rule.finish(
                        end.result.number,
                        completed=end.state is TrialState.COMPLETED,
                        loss=end.result.losses[0] if end.result.is_feasible else None,
                    )
        return study

    def _read(
        self, connection: Connection
    ) -> tuple[Study, str, list[history.Measured], list[history.Ended]]:
        progress = sql_store.get_progress(connection, self._name)
        study = sql_store.studies.get(connection, study_name(self._name)).doc
        if study.pruning is None:
            return study, progress.incarnation, [], []
        return (
            study,
            progress.incarnation,
            history.measured_since(connection, self._name, self._measured),
            history.ended_since(connection, self._name, study, self._told),
        )


class Best:
    """The study's optimal trials."""

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._incarnation = ""
        self._front = Front()
        self._told = 0

    async def numbers(self) -> list[int]:
        incarnation, ended = await self._database.read(self._read)
        if incarnation != self._incarnation:
            self._incarnation, self._front, self._told = incarnation, Front(), 0
            _, ended = await self._database.read(self._read)
        for end in ended:
            if end.sequence > self._told:
                self._told = end.sequence
                if end.state is TrialState.COMPLETED and end.result.is_feasible:
                    self._front.add(end.result.number, end.result.losses)
        return self._front.numbers

    def _read(self, connection: Connection) -> tuple[str, list[history.Ended]]:
        progress = sql_store.get_progress(connection, self._name)
        study = sql_store.studies.get(connection, study_name(self._name)).doc
        ended = history.ended_since(connection, self._name, study, self._told)
        return progress.incarnation, ended


@dataclass(frozen=True)
class Hot:
    """All that is kept of one study."""

    suggestions: Suggestions
    curves: Curves
    best: Best


class HotStudies:
    """At most so many studies; the least recently used go first."""

    def __init__(self, database: Database, executor: Executor, limit: int) -> None:
        self._database = database
        self._executor = executor
        self._limit = limit
        self._studies: OrderedDict[str, Hot] = OrderedDict()

    def of(self, study: str) -> Hot:
        """Costs nothing until it is used, also for a study that does not exist."""
        hot = self._studies.get(study)
        if hot is None:
            hot = self._studies[study] = Hot(
                Suggestions(study, self._database, self._executor),
                Curves(study, self._database),
                Best(study, self._database),
            )
        self._studies.move_to_end(study)
        for name in [*self._studies][: max(0, len(self._studies) - self._limit)]:
            if self._studies[name].suggestions.is_idle:
                del self._studies[name]
        return hot

    def forget(self, study: str) -> None:
        self._studies.pop(study, None)

    def clear(self) -> None:
        self._studies.clear()
