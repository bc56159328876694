"""What can be learned from a study, computed off the event loop and kept while nothing is new.

Everything follows from the study's seed and results, so that every replica says the same. One
question is worked on at a time: the threads are there for suggestions first.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import numpy as np
from sqlalchemy import Connection

from keeptune.runtime.db import Database
from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.runtime.names import parse_study, study_name, trial_name
from keeptune.search import readings, sql_store
from keeptune.search.insight import dependence, forest, importance, outlook
from keeptune.search.insight.cube import Cube, Floats
from keeptune.search.insight.dependence import Dependence
from keeptune.search.insight.forest import Forest
from keeptune.search.insight.importance import Importance
from keeptune.search.insight.outlook import Outlook
from keeptune.search.model import Metric, Progress, Study, StudyState, trials_left
from keeptune.search.optimizers import seeds
from keeptune.search.readings import Ending, Reading

T = TypeVar("T")

FEWEST_TRIALS = 10
# Trials times parameters that a forest is fitted to; of more trials it is fitted to a part.
_WORK = 20_000
_MOST_TRIALS = 2000
_FEW_TRIALS = 200
_KEPT = 16
_MOST_FURTHER = 1_000_000
# Values beyond this count as this, so that their squares are finite.
_LARGEST = 1e150
_READ_AT_ONCE = 5000
# Paths of the study's seed that no optimiser uses.
_FOREST, _IMPORTANCE, _OUTLOOK = 1_000_001, 1_000_002, 1_000_003


@dataclass(frozen=True)
class Fitted:
    """A forest, and what it was fitted to."""

    cube: Cube
    points: Floats
    forest: Forest


@dataclass(frozen=True)
class Prospect:
    """An outlook, with the losses it comes from and the name of the best trial."""

    metric: Metric
    losses: list[float]
    best_trial: str
    found: Outlook


@dataclass(frozen=True)
class _Known:
    """A study as it stands; `further` = trials that are left of its budget, those under way too."""

    study: Study
    progress: Progress
    further: int


class Insights:
    def __init__(self, database: Database, executor: Executor) -> None:
        self._database = database
        self._executor = executor
        self._lock = asyncio.Lock()
        self._kept: OrderedDict[object, object] = OrderedDict()

    async def importance(self, name: str, metric: str) -> tuple[str, Forest, Importance]:
        """The metric's name and what matters for it. Raises as `_fitted` does."""
        known = await self._known(name)
        chosen = _metric(known.study, metric)
        async with self._lock:
            fitted = await self._fitted(known, chosen)
            seed = known.study.plan.seed
            found = await self._keep(
                ("importance", _key(known), chosen.name),
                lambda: importance.importance(
                    fitted.cube, fitted.points, fitted.forest, seeds.generator(seed, _IMPORTANCE)
                ),
            )
        return chosen.name, fitted.forest, found

    async def dependence(
        self, name: str, parameters: Sequence[str], metric: str, points: int
    ) -> tuple[str, Forest, Dependence]:
        """Raises InvalidInput for the parameters, and as `_fitted` does."""
        known = await self._known(name)
        chosen = _metric(known.study, metric)
        _check_parameters(known.study, parameters)
        points = points or (20 if len(parameters) == 1 else 10)
        async with self._lock:
            fitted = await self._fitted(known, chosen)
            found = await self._keep(
                ("dependence", _key(known), chosen.name, *parameters, points),
                lambda: dependence.dependence(fitted.cube, fitted.forest, parameters, points),
            )
        return chosen.name, fitted.forest, found

    async def outlook(
        self, name: str, metric: str, further: int, tolerance: float | None
    ) -> Prospect:
        """Raises NotFound, InvalidInput for the metric, FailedPrecondition for too few trials."""
        known = await self._known(name)
        chosen = _metric(known.study, metric)
        further = further or known.further or max(1, known.progress.told // 2)
        if known.progress.exhausted:
            further = known.progress.unfinished
        further = min(further, _MOST_FURTHER)
        async with self._lock:
            ended = await self._endings(known, chosen)
            losses = [_loss(known.study, chosen, each) for each in ended]
            measured = [loss for loss in losses if np.isfinite(loss)]
            if len(measured) < FEWEST_TRIALS:
                raise _too_few(known, chosen, len(measured), "within the constraints")
            if _are_the_same(np.array(measured)):
                raise _constant(known, chosen, len(measured), "nothing can be said of its future")
            rng = seeds.generator(known.study.plan.seed, _OUTLOOK)
            found = await self._keep(
                ("outlook", _key(known), chosen.name, further, tolerance),
                lambda: outlook.outlook(np.array(losses), further, tolerance, rng),
            )
        best = trial_name(known.progress.study, ended[found.best_trial].number)
        return Prospect(chosen, losses, best, found)

    async def _fitted(self, known: _Known, metric: Metric) -> Fitted:
        """Raises FailedPrecondition when there is nothing to be learned from the trials."""
        cube = Cube(known.study.space)
        if not cube.parameters:
            raise FailedPrecondition(
                f"{study_name(known.progress.study)} leaves nothing to choose, so nothing matters",
                fix="give a study parameters with more than one value",
                reason="NOTHING_TO_CHOOSE",
            )
        most = min(_MOST_TRIALS, max(_FEW_TRIALS, _WORK // len(cube.parameters)))
        every = max(1, -(-known.progress.completed // most))
        rows = await self._database.read(
            lambda c: readings.completed_with(c, known.progress.study, metric.name, every=every)
        )
        if len(rows) < FEWEST_TRIALS:
            raise _too_few(known, metric, len(rows))
        return await self._keep(
            ("forest", _key(known), metric.name),
            lambda: _fit(known, cube, metric, readings.read(rows)),
        )

    async def _endings(self, known: _Known, metric: Metric) -> list[Ending]:
        """Everything that ended, in parts, so that others are not held up."""
        names = {metric.name, *(each.name for each in known.study.constraints)}
        found: list[Ending] = []
        while len(found) < known.progress.told:
            after = found[-1].sequence if found else 0
            part = await self._database.read(
                partial(
                    readings.endings,
                    study=known.progress.study,
                    metrics=names,
                    after=after,
                    limit=_READ_AT_ONCE,
                )
            )
            if not part:  # deleted meanwhile
                break
            found += part
        return found

    async def _known(self, name: str) -> _Known:
        """Raises NotFound."""
        study = parse_study(name, field="study")
        now = self._database.clock.now()

        def read(connection: Connection) -> _Known:
            progress = sql_store.get_progress(connection, study)
            record = sql_store.studies.get(connection, study_name(study))
            left = trials_left(record.doc, progress, record.create_time, now)
            left = 0 if left == sys.maxsize or record.state != StudyState.ACTIVE else left
            return _Known(record.doc, progress, left + progress.unfinished)

        return await self._database.read(read)

    async def _keep(self, key: object, compute: Callable[[], T]) -> T:
        """What was computed for the key, or is now, in a thread."""
        if key not in self._kept:
            loop = asyncio.get_running_loop()
            self._kept[key] = await loop.run_in_executor(self._executor, compute)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return cast(T, self._kept[key])


def _key(known: _Known) -> tuple[str, str, int]:
    return known.progress.study, known.progress.incarnation, known.progress.told


def _fit(known: _Known, cube: Cube, metric: Metric, found: list[Reading]) -> Fitted:
    values = _tamed(np.array([each.value for each in found]), metric)
    if _are_the_same(values):
        raise _constant(known, metric, len(found), "no parameter matters for it")
    points = cube.points([each.parameters for each in found])
    rng = seeds.generator(known.study.plan.seed, _FOREST)
    return Fitted(cube, points, forest.fit(cube, points, values, rng))


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


def _metric(study: Study, name: str) -> Metric:
    if not name:
        return study.objectives[0]
    for metric in study.metrics:
        if metric.name == name:
            return metric
    known = ", ".join(metric.name for metric in study.metrics)
    raise InvalidInput(
        field="metric", problem=f"is {name!r}, which the study has not", fix=f"use one of {known}"
    )


def _check_parameters(study: Study, names: Sequence[str]) -> None:
    free = [parameter.name for parameter in Cube(study.space).parameters]
    for i, name in enumerate(names):
        if name in free:
            continue
        fixed = name in study.space.by_name
        raise InvalidInput(
            field=f"parameters[{i}]",
            problem=f"is {name!r}, which " + ("has no range" if fixed else "the space has not"),
            fix=f"use {', '.join(free[:20])}" if free else "the space leaves nothing to choose",
        )


def _constant(known: _Known, metric: Metric, have: int, so: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{metric.name} is the same in all {have} completed trials of "
        f"{study_name(known.progress.study)}, so {so}",
        fix="name another metric, or complete more trials",
        reason="CONSTANT_METRIC",
    )


def _too_few(known: _Known, metric: Metric, have: int, where: str = "") -> FailedPrecondition:
    missing = FEWEST_TRIALS - have
    noun = "trial" if missing == 1 else "trials"
    return FailedPrecondition(
        f"{study_name(known.progress.study)} has {have} completed trials with "
        f"{metric.name}{f' {where}' if where else ''}, too few to learn from: {missing} more "
        f"{noun} must complete",
        fix=f"complete {missing} more {noun}, or add known results with AddTrials",
        reason="TOO_FEW_TRIALS",
        metadata={"completed": str(have), "needed": str(FEWEST_TRIALS)},
    )
