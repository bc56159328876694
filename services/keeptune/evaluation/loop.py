"""Judges what is open: takes evaluations from the store, oldest first, and writes verdicts.

Everything it knows stands in the store, so that after a crash it simply starts again: judging
twice gives the same verdict, and only the first one is kept. Replicas may judge the same
evaluation side by side, which wastes work and does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import structlog
from structlog.contextvars import bound_contextvars

from keeptune.evaluation import gate, store
from keeptune.evaluation.hosts import JudgeDied
from keeptune.evaluation.judging import Judge
from keeptune.evaluation.model import Evaluation, EvaluationState, Judgement
from keeptune.runtime import tasks
from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.clock import Clock
from keeptune.runtime.db import Database
from keeptune.runtime.errors import Conflict, KeeptuneError
from keeptune.runtime.records import Record

log = structlog.get_logger()

PROFILE_MEDIA_TYPE = "application/x-protobuf"
# A crash may be the machine's fault, e.g. of its memory; the same crash again is the model's.
_MAX_CRASHES = 2
_REPORT_IT = "report it with the service's log; then ask for a new evaluation"


class Loop:
    """Judges up to `parallelism` evaluations at the same time."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        judge: Judge,
        clock: Clock,
        *,
        parallelism: int,
        poll_seconds: float,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._judge = judge
        self._clock = clock
        self._parallelism = parallelism
        self._poll = poll_seconds
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look at once: there is a new evaluation."""
        self._news.set()

    async def run(self) -> None:
        """For ever. Ends its judges when it is cancelled."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._news.clear()
                try:
                    await self._start(running)
                    await tasks.rest(self._clock, self._poll, self._news, running.values())
                    for name, task in list(running.items()):
                        if task.done():
                            del running[name]
                            task.result()
                except KeeptuneError as error:
                    if not error.retryable:
                        raise
                    # A full disk, a database that is away: what is open stays open.
                    log.warning("the store cannot be used; trying again", error=error.message)
                    await self._clock.sleep(max(self._poll, error.retry_after or 0.0))
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _start(self, running: dict[str, asyncio.Task[None]]) -> None:
        free = self._parallelism - len(running)
        if free <= 0:
            return
        # Those under way are among the oldest, so that many more are enough.
        found = await self._database.read(
            lambda c: store.open_evaluations(c, self._parallelism + len(running))
        )
        for record in found:
            if record.name not in running and free > 0:
                running[record.name] = asyncio.create_task(self._drive(record), name=record.name)
                free -= 1

    async def _drive(self, record: Record[Evaluation]) -> None:
        # A Conflict says that another replica was faster: then there is nothing left to do.
        ids = record.doc.carried
        with bound_contextvars(evaluation=record.name, **ids), contextlib.suppress(Conflict):
            await self._until_ended(record)

    async def _until_ended(self, record: Record[Evaluation]) -> None:
        """Brings one evaluation to its end, through whatever trouble passes."""
        backoff = Backoff(initial=1.0, maximum=60.0)
        if record.doc.state is EvaluationState.PENDING:
            record = await self._save(record, record.doc.start())
        while not record.doc.state.ended:
            try:
                record = await self._judge_one(record)
            except JudgeDied as error:
                record = await self._note_crash(record, str(error))
            except Conflict:
                raise
            except KeeptuneError as error:
                if error.retryable:
                    log.warning("cannot be judged now; trying again", error=error.message)
                    record = await self._say(record, f"{error.message}; trying again")
                    await self._clock.sleep(backoff.next(at_least=error.retry_after or 0.0))
                else:
                    reason = error.message.removesuffix(f"; fix: {error.fix}")
                    record = await self._fail(record, reason, error.fix)
            except Exception as error:
                # A defect of ours, in one evaluation, must not stop the others.
                log.exception("could not be judged")
                reason = f"a defect while judging: {error!r}"
                record = await self._fail(record, reason, _REPORT_IT)

    async def _judge_one(self, record: Record[Evaluation]) -> Record[Evaluation]:
        judgement = await self._judge.judge(record.doc)
        reference = await self._keep_profile(judgement)
        verdict = gate.decide(
            record.doc.gate,
            judgement,
            has_champion=record.doc.champion is not None,
            now=self._clock.now(),
        )
        record = await self._save(record, record.doc.succeed(judgement, verdict, reference))
        log.info("judged", outcome=verdict.outcome.value, reason=verdict.reason)
        return record

    async def _keep_profile(self, judgement: Judgement) -> Artifact | None:
        if not judgement.profile:
            return None
        return await self._artifacts.put_bytes(
            judgement.profile, media_type=PROFILE_MEDIA_TYPE, filename="reference-profile.pb"
        )

    async def _note_crash(self, record: Record[Evaluation], what: str) -> Record[Evaluation]:
        doc = replace(record.doc, crashes=record.doc.crashes + 1)
        log.warning("the judge died", error=what, crashes=doc.crashes)
        if doc.crashes >= _MAX_CRASHES:
            doc = doc.fail(
                self._clock.now(),
                f"{what}, {doc.crashes} times",
                "check that the models run under onnxruntime, and evaluation.memory_bytes",
            )
        else:
            doc = doc.say(f"{what}; trying once more")
        return await self._save(record, doc)

    async def _fail(
        self, record: Record[Evaluation], reason: str, next_step: str
    ) -> Record[Evaluation]:
        log.warning("cannot be judged", reason=reason)
        return await self._save(record, record.doc.fail(self._clock.now(), reason, next_step))

    async def _say(self, record: Record[Evaluation], reason: str) -> Record[Evaluation]:
        if record.doc.reason == reason:
            return record
        return await self._save(record, record.doc.say(reason))

    async def _save(self, record: Record[Evaluation], evaluation: Evaluation) -> Record[Evaluation]:
        return await self._database.run(lambda c: store.save(c, record, evaluation))
