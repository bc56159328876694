"""The loop that drives trainings: looks at what is, decides, does one thing, looks again.

Everything that must outlive this process is in the store and in SearchService; a restarted
supervisor finds its trainings there and staffs them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog
from sqlalchemy import Connection

from keeptune.runtime.channel import Endpoint
from keeptune.runtime.clock import Clock
from keeptune.runtime.db import Database
from keeptune.runtime.errors import InvalidInput, KeeptuneError
from keeptune.runtime.logging import Level, bound
from keeptune.runtime.names import new_id
from keeptune.runtime.records import Record
from keeptune.training import store
from keeptune.training.allocation import Demand, Host, allocate
from keeptune.training.datasets.keeper import DataKeeper
from keeptune.training.decide import (
    BeginExport,
    ChooseBest,
    Fail,
    Failure,
    Observed,
    Prepare,
    Staff,
    Step,
    StudyView,
    Succeed,
    Wait,
    decide,
    wanted_workers,
)
from keeptune.training.engines.local import LocalEngine
from keeptune.training.jobs import Surroundings, job_for
from keeptune.training.model import (
    Anomaly,
    Progress,
    Resources,
    TrainedModel,
    Training,
    TrainingState,
)
from keeptune.training.runs import Run
from keeptune.training.studies import Studies

log = structlog.get_logger()


class Supervisor:
    """One a host: it owns the host's worker processes."""

    def __init__(
        self,
        database: Database,
        studies: Studies,
        engine: LocalEngine,
        data: DataKeeper,
        clock: Clock,
        *,
        artifacts_url: str,
        search: Callable[[], Endpoint],
        workers: int,
        poll_seconds: float,
        log_level: Level,
    ) -> None:
        self._database = database
        self._studies = studies
        self._engine = engine
        self._data = data
        self._artifacts_url = artifacts_url
        self._clock = clock
        self._search = search
        self._workers = workers
        self._poll_seconds = poll_seconds
        self._log_level = log_level
        self._runs: dict[str, Run] = {}
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """There is something new to look at."""
        self._awake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._awake.clear()
            try:
                await self._look()
            except KeeptuneError as error:
                if not error.retryable:
                    raise
                log.warning("will look again", error=str(error))
            try:
                await asyncio.wait_for(self._awake.wait(), self._poll_seconds)
            except TimeoutError:
                continue

    async def warm(self) -> None:
        """Gets the engine ready before the first training needs it."""
        try:
            await self._engine.warm()
        except KeeptuneError as error:
            log.warning("workers cannot be started yet", error=str(error))

    async def close(self) -> None:
        for run in self._runs.values():
            await run.close()
        await self._engine.close()

    async def _look(self) -> None:
        records = await self._database.read(store.active)
        names = {record.name for record in records}
        for name in self._runs.keys() - names:
            await self._runs.pop(name).close()
        if not records:
            return
        views = await asyncio.gather(*(self._view(record) for record in records))
        host = await self._host(records)
        seen = [self._observe(record, view) for record, view in zip(records, views, strict=True)]
        for record, each in zip(records, self._share(records, seen, host), strict=True):
            await self._step(record, each, host)

    def _share(
        self, records: list[Record[Training]], seen: list[Observed], host: Host
    ) -> list[Observed]:
        """The same, with each training's room for workers."""
        demands = [
            Demand(
                record.name,
                wanted_workers(each, host.workers),
                _resources(record.doc),
                working=len(each.working),
                may_start=self._run_of(record.name).may_start,
            )
            for record, each in zip(records, seen, strict=True)
        ]
        rooms = allocate(host, demands)
        return [
            replace(each, room=rooms[record.name])
            for record, each in zip(records, seen, strict=True)
        ]

    async def _step(self, record: Record[Training], seen: Observed, host: Host) -> None:
        """One training's trouble is its own."""
        with bound(**record.doc.ids):
            try:
                await self._do(record, seen, decide(seen), host)
            except KeeptuneError as error:
                if error.retryable:
                    log.warning("will try again", training=record.name, error=str(error))
                    await self._tell(record, f"will try again: {error.message}")
                else:
                    await self._fail(record.name, Failure(error.message, error.fix))

    async def _host(self, records: list[Record[Training]]) -> Host:
        """Counts GPUs only when somebody wants one: that waits for the nursery."""
        wants_gpu = any(record.doc.resources.gpu for record in records)
        return Host(self._workers, await self._engine.gpus() if wants_gpu else 0)

    async def _view(self, record: Record[Training]) -> StudyView | Failure | None:
        training = record.doc
        if training.state is not TrainingState.RUNNING or not training.study:
            return None
        with bound(**training.ids):
            try:
                return await self._studies.view(training.study)
            except KeeptuneError as error:
                if not error.retryable:
                    return Failure(f"{training.study}: {error.message}", error.fix)
                log.warning("search cannot be reached", training=record.name, error=error.message)
                return None

    def _observe(self, record: Record[Training], view: StudyView | Failure | None) -> Observed:
        run = self._run_of(record.name)
        training = record.doc
        return Observed(
            training=training,
            room=0,
            working=run.working,
            drained=frozenset(run.drained),
            losses=run.losses,
            trouble=run.trouble,
            failure=view if isinstance(view, Failure) else run.failure,
            study=view if isinstance(view, StudyView) else None,
            result=run.result,
            model=_model(training, run),
        )

    async def _do(self, record: Record[Training], seen: Observed, step: Step, host: Host) -> None:
        name = record.name
        trials_done = seen.study.done if seen.study else record.doc.trials_done
        match step:
            case Prepare():
                await self._prepare(record)
            case Staff(start, release):
                await self._staff(record, start, release, host)
                await self._tell(record, _RUNNING[record.doc.state], trials_done)
            case ChooseBest():
                for index in seen.working:
                    self._run_of(name).release(index)
                await self._choose(record, trials_done)
            case BeginExport(best):
                await self._change(name, lambda t: t.exporting(best.checkpoint, best.measurement))
                self.wake()
            case Succeed(model):
                await self._end(name, lambda t: t.succeeded(model, self._clock.now()))
            case Fail(failure):
                await self._fail(name, failure)
            case Wait(reason):
                await self._tell(record, reason or _RUNNING[record.doc.state], trials_done)

    async def _prepare(self, record: Record[Training]) -> None:
        failure = await self._ensure_data(record.doc)
        if failure is not None:
            await self._fail(record.name, failure)
            return
        await self._change(record.name, lambda t: t.running(_RUNNING[TrainingState.RUNNING]))
        self.wake()

    async def _staff(
        self,
        record: Record[Training],
        start: tuple[int, ...],
        release: tuple[int, ...],
        host: Host,
    ) -> None:
        run = self._run_of(record.name)
        for index in release:
            run.release(index)
        if not start:
            return
        failure = await self._ensure_data(record.doc)
        if failure is not None:
            await self._fail(record.name, failure)
            return
        around = Surroundings(host, self._search(), self._artifacts_url, self._log_level)
        for index in start:
            job = job_for(
                record.name,
                record.doc,
                index,
                around,
                data_folder=self._data.folder(record.doc.data_key),
                incarnation=new_id(),
                give_up=run.give_up,
            )
            await run.start(index, job)

    async def _choose(self, record: Record[Training], trials_done: int) -> None:
        best = await self._studies.best(record.doc.study, record.doc.trainer)
        if isinstance(best, Failure):
            await self._fail(record.name, best, trials_done)
            return
        await self._change(
            record.name,
            lambda t: replace(
                t.exporting(best.checkpoint, best.measurement), trials_done=trials_done
            ),
        )
        self.wake()

    async def _ensure_data(self, training: Training) -> Failure | None:
        try:
            if await self._data.ensure(training):
                return None
        except InvalidInput as error:
            return Failure(error.message, error.fix)
        return Failure(
            "the datasets have changed since the training was created",
            "create another training with the data as they are now",
        )

    def _run_of(self, name: str) -> Run:
        if name not in self._runs:
            self._runs[name] = Run(self._engine, self._clock, partial(self._note, name), self.wake)
        return self._runs[name]

    async def _note(self, name: str, event: Progress | Anomaly) -> None:
        """Keeps the event if that is possible: a full disk must not stop the trial."""
        try:
            if isinstance(event, Progress):
                await self._database.run(lambda c: store.add_progress(c, name, event))
            else:
                await self._database.run(lambda c: store.add_anomaly(c, name, event))
        except KeeptuneError as error:
            log.warning("event lost", training=name, error=str(error))

    async def _tell(
        self, record: Record[Training], reason: str, trials_done: int | None = None
    ) -> None:
        done = record.doc.trials_done if trials_done is None else trials_done
        if (reason, done) != (record.doc.reason, record.doc.trials_done):
            await self._change(record.name, lambda t: replace(t, reason=reason, trials_done=done))

    async def _fail(self, name: str, failure: Failure, trials_done: int | None = None) -> None:
        def transition(training: Training) -> Training:
            done = training.trials_done if trials_done is None else trials_done
            failed = training.failed(failure.reason, failure.next_step, self._clock.now())
            return replace(failed, trials_done=done)

        await self._end(name, transition)

    async def _end(self, name: str, transition: Callable[[Training], Training]) -> None:
        await self._change(name, transition)
        active = await self._database.read(store.active)
        keep = {record.doc.data_key for record in active}
        await self._data.prune(keep)
        self.wake()

    async def _change(self, name: str, transition: Callable[[Training], Training]) -> None:
        def work(c: Connection) -> tuple[TrainingState, Record[Training]]:
            before = store.trainings.get(c, name).doc.state
            return before, store.change(c, name, transition)

        before, after = await self._database.run(work)
        if after.doc.state is not before:
            log.info("training", training=name, state=after.doc.state, reason=after.doc.reason)


_RUNNING = {
    TrainingState.PENDING: "waiting to start",
    TrainingState.RUNNING: "running trials",
    TrainingState.EXPORTING: "exporting the best model",
}


def _resources(training: Training) -> Resources:
    """Of one worker now: exports need no GPU."""
    if training.state is TrainingState.RUNNING:
        return training.resources
    return Resources()


def _model(training: Training, run: Run) -> TrainedModel | None:
    if run.exported is None or training.checkpoint is None:
        return None
    return TrainedModel(
        onnx=run.exported.onnx,
        weights=training.checkpoint.weights,
        signature=run.exported.signature,
        parity_error=run.exported.parity_error,
    )
