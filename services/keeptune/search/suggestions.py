"""A study's optimiser, and the suggestions that wait to become trials.

The optimiser follows the study: it hears from the desk what this process does, and reads the store
when it begins and when another replica has changed the study. Suggestions are computed where
nobody waits for them if that can be:

- Of an optimiser that learns nothing from results, such as random search, a stock is kept, the
  larger the more is asked for.
- Of one that learns, one suggestion is computed ahead while at least two trials are under way. It
  may become a trial as long as no more than one result has come since, which is as late as with one
  worker more. Nothing is computed ahead of a single worker: each of its suggestions knows all
  results before it, so that its study is the same whenever it is repeated.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from keeptune.runtime.db import Database
from keeptune.runtime.errors import KeeptuneError
from keeptune.runtime.names import study_name
from keeptune.search import history, sql_store
from keeptune.search.leasing import NeedSuggestionsError
from keeptune.search.model import Progress, Study, trials_left
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Nothing, Problem, Result
from keeptune.search.optimizers.earlier import Earlier
from keeptune.search.replay import Asked, Follower, Suggested
from keeptune.search.unit_of_work import UnitOfWork

log = structlog.get_logger()

T = TypeVar("T")

_MOST_STOCK = 256
# Suggestions that take less are not worth a thread.
_COSTLY_SECONDS = 0.005
_LATE_RESULTS = 1
_PAGE = 2_000


def problem_of(study: Study) -> Problem:
    """What the study's algorithm is made for; the same at every time."""
    return Problem(
        space=study.space,
        seed=study.plan.seed,
        trials=study.plan.trials,
        objectives=len(study.objectives),
        constraints=len(study.constraints),
        noisy=study.noisy,
    )


@dataclass(frozen=True)
class _Page:
    """What happened in a study since a follower looked, or the first of it."""

    study: Study
    progress: Progress
    left: int
    asked: list[Asked]
    results: list[Result]
    warm_start: list[Earlier]
    is_last: bool


class Suggestions:
    """`turn` is held by whoever changes the study, from the transaction to `heard`."""

    def __init__(self, name: str, database: Database, executor: Executor) -> None:
        self._name = name
        self._database = database
        self._executor = executor
        self.turn = asyncio.Lock()
        self._computing = asyncio.Lock()
        self._follower: Follower | None = None
        self._incarnation = ""
        # The desk's news since the follower last caught up; all there are, if `_informed`.
        self._asked: list[Asked] = []
        self._results: list[Result] = []
        self._informed = False
        self._progress: Progress | None = None
        self._left = 0
        # What the follower suggested, by number; it counts on them to become trials.
        self._ready: dict[int, Suggested] = {}
        # What a copy of it suggested ahead.
        self._ahead: Suggested | None = None
        # Why there are no more, and for how many trials and results that holds.
        self._nothing: tuple[Nothing, int, int] | None = None
        self._demand = 0
        self._stock = 1
        self._seconds = 0.0
        self._background: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return not (self._demand or self._computing.locked() or self.turn.locked())

    def supply(self, work: UnitOfWork, count: int) -> tuple[list[Suggested], Nothing | None]:
        """See `leasing.Supply`."""
        progress = work.progress
        if progress.incarnation != self._incarnation:
            raise NeedSuggestionsError(count)
        found: list[Suggested] = []
        ready = self._ready
        for number in range(progress.trials + 1, progress.trials + count + 1):
            suggested = ready.get(number) or self._computed_ahead(number, progress.told)
            if suggested is None:
                break
            found.append(suggested)
        if len(found) < count and self._nothing is not None:
            nothing, trials, told = self._nothing
            at_the_end = trials == progress.trials + len(found)
            if at_the_end and (nothing is Nothing.LEFT or told == progress.told):
                return found, nothing
        if len(found) < count:
            raise NeedSuggestionsError(count - len(found))
        return found, None

    def heard(self, work: UnitOfWork, *, others_changed_it: bool) -> None:
        """What a committed transaction did; prepares what will be asked for next."""
        self._progress, self._left = work.progress, work.trials_left
        if others_changed_it:
            self._informed = False
        for suggested in work.created:
            mine = self._ready.pop(suggested.number, None)
            if mine is not suggested and self._informed:
                values = suggested.suggestion.parameters
                self._asked.append(Asked(suggested.number, suggested.told, values))
        if self._ahead is not None and self._ahead.number <= work.progress.trials:
            self._ahead = None
        if self._informed:
            study = work.study
            self._results += [
                history.result_of(study, each.number, each.state, dict(each.parameters), each.final)
                for each in work.ended
            ]
        self._look_ahead()

    async def prepare(self, count: int) -> None:
        """Computes suggestions for all who have asked for some by now."""
        self._demand += count
        async with self._computing:
            if self._demand and self._progress is not None:
                number, told = self._progress.trials + 1, self._progress.told
                self._demand -= self._computed_ahead(number, told) is not None
            if not self._demand:
                return
            count, self._demand = self._demand, 0
            await self._prepare(count)

    async def close(self) -> None:
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    def _computed_ahead(self, number: int, told: int) -> Suggested | None:
        ahead = self._ahead
        if ahead is not None and ahead.number == number and told - ahead.told <= _LATE_RESULTS:
            return ahead
        return None

    def _look_ahead(self) -> None:
        if self._follower is None or self._progress is None or self._computing.locked():
            return
        if self._follower.learns:
            wanted = (
                self._follower.adopts
                and self._progress.running >= 2
                and self._seconds >= _COSTLY_SECONDS
                and not self._ready
                and self._ahead is None
                and self._left > 0
            )
        else:
            wanted = len(self._ready) < min(self._stock // 4, self._left)
        if wanted and (self._background is None or self._background.done()):
            self._background = asyncio.create_task(self._compute_ahead())

    async def _compute_ahead(self) -> None:
        """Nobody waits for it: who asks later and finds nothing hears of what went wrong."""
        try:
            async with self._computing:
                if self._follower is not None and self._follower.learns:
                    follower = await self._caught_up()
                    copied = await self._on_a_thread(lambda: copy.deepcopy(follower).suggest(1))
                    self._ahead = copied[0][0] if copied[0] else None
                else:
                    await self._prepare(0)
        except KeeptuneError as error:
            log.info("no suggestion could be computed ahead", study=self._name, error=str(error))

    async def _prepare(self, count: int) -> None:
        follower = await self._caught_up()
        if not follower.learns:
            count = max(count, self._stock - len(self._ready))
            self._stock = min(2 * self._stock, _MOST_STOCK)
        count = min(count, self._left - len(self._ready))
        self._ahead = None
        began = time.perf_counter()
        try:
            suggested, nothing = await self._on_a_thread(lambda: follower.suggest(count))
        except BaseException:
            self._follower = None
            raise
        if suggested:
            self._seconds = (time.perf_counter() - began) / len(suggested)
        self._ready |= {each.number: each for each in suggested}
        self._nothing = None if nothing is None else (nothing, follower.trials, follower.told)

    async def _caught_up(self) -> Follower:
        """The follower, when it knows all that had happened when this was called."""
        while True:
            if self._follower is not None and self._informed:
                asked, results = self._asked, self._results
                self._asked, self._results = [], []
                return await self._told(self._follower, asked, results)
            async with self.turn:
                page = await self._database.read(self._read)
                self._asked, self._results = [], []
                self._informed = page.is_last
                self._progress, self._left = page.progress, page.left
            if self._has_diverged(page):
                self._follower, self._informed = None, False
                self._ready, self._ahead, self._nothing = {}, None, None
                continue
            follower = self._follower
            if follower is None:
                self._ready, self._ahead, self._nothing = {}, None, None
                follower = await self._on_a_thread(partial(_begun, page))
                self._incarnation = page.progress.incarnation
            self._follower = await self._told(follower, page.asked, page.results)

    async def _told(
        self, follower: Follower, asked: list[Asked], results: list[Result]
    ) -> Follower:
        try:
            if asked or results:
                await self._on_a_thread(lambda: follower.catch_up(asked, results))
        except BaseException:
            # Half-way through its history it is of no use.
            self._follower = None
            raise
        return follower

    def _has_diverged(self, page: _Page) -> bool:
        """Whether the follower's own suggestions did not become the trials of their numbers."""
        if self._follower is None:
            return False
        if page.progress.incarnation != self._incarnation:
            return True
        taken = [number for number in self._ready if number <= page.progress.trials]
        if taken and self._follower.repeats:
            for number in taken:
                del self._ready[number]
            return False
        return bool(taken)

    def _read(self, connection: Connection) -> _Page:
        follower = self._follower
        trials, told = (follower.trials, follower.told) if follower else (0, 0)
        progress = sql_store.get_progress(connection, self._name)
        record = sql_store.studies.get(connection, study_name(self._name))
        asked = history.asked_since(connection, self._name, trials, limit=_PAGE)
        # Results that none of these trials was suggested with come with the next ones.
        is_last = len(asked) < _PAGE
        known = None if is_last else max((each.told or 0 for each in asked), default=0)
        ended = history.ended_since(connection, self._name, record.doc, told, until=known)
        now = self._database.clock.now()
        return _Page(
            study=record.doc,
            progress=progress,
            left=trials_left(record.doc, progress, record.create_time, now),
            asked=asked,
            results=[each.result for each in ended],
            warm_start=[] if follower else history.get_warm_start(connection, self._name),
            is_last=is_last,
        )

    async def _on_a_thread(self, work: Callable[[], T]) -> T:
        """A thread cannot be cancelled: waits for it, so that no second one uses the optimiser."""
        computing = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(computing)
        except asyncio.CancelledError:
            await asyncio.wait([computing])
            raise


def _begun(page: _Page) -> Follower:
    problem = problem_of(page.study)
    return Follower(registry.make(page.study.plan.algorithm, problem, page.warm_start))
