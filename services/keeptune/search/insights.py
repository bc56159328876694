"""What can be learned from a study, computed off the event loop and kept while nothing is new.

Everything follows from the study's seed and results, so that every replica says the same. One
question is worked on at a time: the threads are there for suggestions first.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

import numpy as np
from sqlalchemy import Connection

from keeptune.runtime.db import Database
from keeptune.runtime.names import parse_study, study_name, trial_name
from keeptune.search import history, insight_rules, readings, sql_store
from keeptune.search.insight import choice, dependence, forest, importance, outlook
from keeptune.search.insight.choice import Choice
from keeptune.search.insight.cube import Cube, Floats
from keeptune.search.insight.dependence import Dependence
from keeptune.search.insight.forest import Forest
from keeptune.search.insight.importance import Importance
from keeptune.search.insight.outlook import Outlook
from keeptune.search.insight_rules import FEWEST_TRIALS
from keeptune.search.model import Metric, Progress, Study, StudyState, trials_left
from keeptune.search.optimizers import grid, quasi_random, random_search, seeds
from keeptune.search.readings import Ending, Row

T = TypeVar("T")

# Trials times parameters that a forest is fitted to; of more trials it is fitted to a part.
_WORK = 20_000
_MOST_TRIALS = 2000
_FEW_TRIALS = 200
_KEPT = 16
_READ_AT_ONCE = 5000
_MOST_FURTHER = 1_000_000
_DRAWS_BY_CHANCE = {each.ALGORITHM.name for each in (random_search, quasi_random, grid)}
# Values beyond this count as this, so that their squares are finite.
_LARGEST = 1e150
# Paths of the study's seed that no optimiser uses.
_FOREST, _IMPORTANCE, _OUTLOOK, _CHOICE = 1_000_001, 1_000_002, 1_000_003, 1_000_004
_MOST_CHOSEN_FROM = 200


@dataclass(frozen=True)
class Fitted:
    """A forest, and what it was fitted to."""

    cube: Cube
    points: Floats
    forest: Forest


@dataclass(frozen=True)
class Prospect:
    """An outlook, with the losses at its records and the name of the best trial; `choice` is the
    best by a model, of the first objective."""

    metric: Metric
    records: list[float]
    best_trial: str
    found: Outlook
    choice: Choice | None = None


@dataclass(frozen=True)
class _Known:
    """A study as it stands; `left` = trials left of its budget, with those under way."""

    study: Study
    progress: Progress
    left: int

    @property
    def name(self) -> str:
        return study_name(self.progress.study)

    @property
    def key(self) -> tuple[str, str, int]:
        """Changes with every result."""
        return self.progress.study, self.progress.incarnation, self.progress.told

    def rng(self, path: int) -> np.random.Generator:
        return seeds.generator(self.study.plan.seed, path)


class Insights:
    def __init__(self, database: Database, executor: Executor) -> None:
        self._database = database
        self._executor = executor
        self._lock = asyncio.Lock()
        self._kept: OrderedDict[object, object] = OrderedDict()

    async def importance(self, study: str, metric: str) -> tuple[str, Forest, Importance]:
        """What matters for the metric, by its name. Raises as `_fitted` does."""
        known = await self._known(study)
        chosen = insight_rules.metric_of(known.study, metric)

        async def work() -> tuple[str, Forest, Importance]:
            fitted = await self._fitted(known, chosen)
            rng = known.rng(_IMPORTANCE)
            found = await self._apart(
                partial(importance.importance, fitted.cube, fitted.points, fitted.forest, rng)
            )
            return chosen.name, fitted.forest, found

        async with self._lock:
            return await self._keep(("importance", known.key, chosen.name), work)

    async def dependence(
        self, study: str, parameters: Sequence[str], metric: str, points: int
    ) -> tuple[str, Forest, Dependence]:
        """Raises InvalidInput for the parameters, and as `_fitted` does."""
        known = await self._known(study)
        chosen = insight_rules.metric_of(known.study, metric)
        insight_rules.check_parameters(known.study, parameters)
        points = points or (20 if len(parameters) == 1 else 10)
        async with self._lock:
            fitted = await self._fitted(known, chosen)
            found = await self._apart(
                partial(dependence.dependence, fitted.cube, fitted.forest, parameters, points)
            )
        return chosen.name, fitted.forest, found

    async def outlook(
        self, study: str, metric: str, further: int, tolerance: float | None
    ) -> Prospect:
        """Raises NotFound, InvalidInput for the metric, FailedPrecondition for too few trials."""
        known = await self._known(study)
        chosen = insight_rules.metric_of(known.study, metric)
        further = further or known.left or max(1, known.progress.told // 2)
        if known.progress.exhausted:
            further = known.progress.unfinished
        further = min(further, _MOST_FURTHER)

        async def work() -> Prospect:
            ended = await self._endings(known, chosen)
            found = await self._apart(partial(_look_out, known, chosen, ended, further, tolerance))
            if chosen != known.study.objectives[0]:
                return found
            results = await self._database.read(
                lambda connection: list(
                    history.completed_of(
                        connection, known.progress.study, known.study, _MOST_CHOSEN_FROM
                    )
                )
            )
            picked = await self._apart(
                partial(choice.choose, known.study.space, results, known.rng(_CHOICE))
            )
            return replace(found, choice=picked)

        async with self._lock:
            return await self._keep(("outlook", known.key, chosen.name, further, tolerance), work)

    async def _fitted(self, known: _Known, metric: Metric) -> Fitted:
        """Raises FailedPrecondition when there is nothing to be learned from the trials."""
        cube = Cube.of(known.study.space)
        if not cube.parameters:
            raise insight_rules.nothing_to_choose(known.name)
        most = min(_MOST_TRIALS, max(_FEW_TRIALS, _WORK // len(cube.parameters)))

        async def work() -> Fitted:
            rows = await self._database.read(
                partial(
                    readings.completed_with,
                    metric=metric.name,
                    most=most,
                    progress=known.progress,
                )
            )
            if len(rows) < FEWEST_TRIALS:
                raise insight_rules.too_few(known.name, metric, len(rows))
            return await self._apart(partial(_fit, known, cube, metric, rows))

        return await self._keep(("forest", known.key, metric.name), work)

    async def _endings(self, known: _Known, metric: Metric) -> list[Ending]:
        """Everything that ended, in parts, so that others are not held up."""
        names = {metric.name, *(each.name for each in known.study.constraints)}
        found: list[Ending] = []
        for after in range(0, known.progress.told, _READ_AT_ONCE):
            found += await self._database.read(
                partial(
                    readings.endings,
                    study=known.progress.study,
                    metrics=names,
                    after=after,
                    until=min(after + _READ_AT_ONCE, known.progress.told),
                )
            )
        return found

    async def _known(self, name: str) -> _Known:
        """Raises NotFound."""
        study = parse_study(name, field="study")
        now = self._database.clock.now()

        def read(connection: Connection) -> _Known:
            progress = sql_store.get_progress(connection, study)
            record = sql_store.studies.get(connection, study_name(study))
            left = trials_left(record.doc, progress, record.create_time, now)
            if record.state != StudyState.ACTIVE or left == sys.maxsize:
                left = 0
            return _Known(record.doc, progress, left + progress.unfinished)

        return await self._database.read(read)

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _keep(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """What is kept by the key, or is worked out now."""
        if key not in self._kept:
            self._kept[key] = await work()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return cast(T, self._kept[key])


def _fit(known: _Known, cube: Cube, metric: Metric, rows: Sequence[Row]) -> Fitted:
    found = readings.decode(rows)
    values = _tamed(np.array([each.value for each in found]), metric)
    if _are_the_same(values):
        raise insight_rules.constant(known.name, metric, len(found), "no parameter matters for it")
    points = cube.points([each.parameters for each in found])
    return Fitted(cube, points, forest.fit(cube, points, values, known.rng(_FOREST)))


def _look_out(
    known: _Known, metric: Metric, ended: list[Ending], further: int, tolerance: float | None
) -> Prospect:
    losses = np.array([_loss(known.study, metric, each) for each in ended])
    measured = losses[np.isfinite(losses)]
    if len(measured) < FEWEST_TRIALS:
        raise insight_rules.too_few(known.name, metric, len(measured), "within the constraints")
    if _are_the_same(measured):
        so = "nothing can be said of its future"
        raise insight_rules.constant(known.name, metric, len(measured), so)
    learns = known.study.plan.algorithm not in _DRAWS_BY_CHANCE
    found = outlook.outlook(losses, further, tolerance, known.rng(_OUTLOOK), learns=learns)
    best = trial_name(known.progress.study, ended[found.best_trial].number)
    return Prospect(metric, losses[list(found.records)].tolist(), best, found)


def _tamed(values: Floats, metric: Metric) -> Floats:
    """Far outliers on the bad side pulled in, so that one diverged trial is not all there is.

    Far = beyond three interquartile ranges (Tukey, Exploratory Data Analysis, 1977).
    """
    losses = metric.loss(1.0) * np.clip(values, -_LARGEST, _LARGEST)
    first, third = np.quantile(losses, (0.25, 0.75))
    if third > first:
        losses = np.minimum(losses, third + 3.0 * (third - first))
    return np.asarray(metric.loss(1.0) * losses)


def _are_the_same(values: Floats) -> bool:
    return float(values.std()) <= 1e-12 * float(np.abs(values).max())


def _loss(study: Study, metric: Metric, ending: Ending) -> float:
    """Infinity where the trial has none that counts."""
    if not ending.completed or metric.name not in ending.metrics:
        return float("inf")
    if any(by > 0 for by in study.broken(ending.metrics)):
        return float("inf")
    return min(max(metric.loss(ending.metrics[metric.name]), -_LARGEST), _LARGEST)
