"""What is kept in memory of studies in use; all of it can be made anew from the store.

Each follower knows how far in the study's history it has come, and catches up by what happened
since. That another replica changed the study is seen by that, and a follower that has run ahead of
what became of the study is thrown away. Nothing here is durable and nothing here decides: what a
transaction finds in the store does.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlalchemy import Connection

from keeptune.runtime.db import Database
from keeptune.runtime.names import study_name
from keeptune.search import history, sql_store
from keeptune.search.desk import Desk
from keeptune.search.model import Study, TrialState
from keeptune.search.pareto import Front
from keeptune.search.pruning import Point, Pruning, rule_for
from keeptune.search.suggestions import Suggestions


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

    async def front(self) -> Front:
        """Not to be changed."""
        incarnation, ended = await self._database.read(self._read)
        if incarnation != self._incarnation:
            self._incarnation, self._front, self._told = incarnation, Front(), 0
            _, ended = await self._database.read(self._read)
        for end in ended:
            if end.sequence > self._told:
                self._told = end.sequence
                if end.state is TrialState.COMPLETED and end.result.is_feasible:
                    self._front.add(end.result.number, end.result.losses)
        return self._front

    def _read(self, connection: Connection) -> tuple[str, list[history.Ended]]:
        progress = sql_store.get_progress(connection, self._name)
        study = sql_store.studies.get(connection, study_name(self._name)).doc
        ended = history.ended_since(connection, self._name, study, self._told)
        return progress.incarnation, ended


@dataclass(frozen=True)
class Hot:
    """All that is kept of one study."""

    desk: Desk
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
            suggestions = Suggestions(study, self._database, self._executor)
            hot = self._studies[study] = Hot(
                Desk(study, self._database, suggestions),
                suggestions,
                Curves(study, self._database),
                Best(study, self._database),
            )
        self._studies.move_to_end(study)
        for name in [*self._studies][: max(0, len(self._studies) - self._limit)]:
            hot_one = self._studies[name]
            if hot_one.desk.is_idle and hot_one.suggestions.is_idle:
                del self._studies[name]
        return hot

    def forget(self, study: str) -> None:
        self._studies.pop(study, None)

    async def close(self) -> None:
        for hot in self._studies.values():
            await hot.suggestions.close()
        self._studies.clear()
