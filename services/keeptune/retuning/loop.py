"""Observe, decide, step, persist: again and again, for every open retune.

Everything it knows stands in the store. Two loops on one store do no harm: a step taken twice
does its work once, and of two writes the one that read an older etag is dropped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from keeptune.retuning import spec as specs
from keeptune.retuning import steps, store
from keeptune.retuning.decide import Become, Do, Step, Wait, decide
from keeptune.retuning.model import RetuneState
from keeptune.retuning.observe import observe
from keeptune.runtime import tasks
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.errors import Conflict, FailedPrecondition, KeeptuneError, NotFound
from keeptune.runtime.logging import bound

if TYPE_CHECKING:
    from keeptune.retuning.model import Policy, Retune
    from keeptune.retuning.peers import Peers
    from keeptune.runtime.clock import Clock
    from keeptune.runtime.db import Database
    from keeptune.runtime.records import Record

log = structlog.get_logger()

# Refusals that pass by themselves: with more captures, at another rollout's end.
_PASSING = frozenset({"TOO_FEW_CAPTURES", "ROLLOUT_UNDER_WAY"})


@dataclass
class _Pace:
    """When a retune may be driven again after trouble."""

    backoff: Backoff
    not_before: float = 0.0


class Loop:
    """Drives all open retunes of one store; `poll_seconds` between looks."""

    def __init__(self, database: Database, peers: Peers, clock: Clock, poll_seconds: float) -> None:
        self._database = database
        self._peers = peers
        self._clock = clock
        self._poll = poll_seconds
        self._paces: dict[str, _Pace] = {}
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was asked for."""
        self._news.set()

    async def run(self) -> None:
        """For ever. Temporary errors of the store are waited out; others are raised."""
        backoff = Backoff(initial=self._poll, maximum=max(self._poll, 30.0))
        while True:
            self._news.clear()
            try:
                await self.tick()
            except KeeptuneError as error:
                if not error.retryable:
                    raise
                log.warning("the store cannot be used; trying again", error=error.message)
                await self._clock.sleep(backoff.next(at_least=error.retry_after or 0.0))
                continue
            backoff.reset()
            await tasks.rest(self._clock, self._poll, self._news)

    async def tick(self) -> None:
        """One look at everything that is open."""
        policies, retunes = await self._database.read(
            lambda c: (store.all_policies(c), store.open_retunes(c))
        )
        wanted = {record.name for record in retunes} | {record.name for record in policies}
        for gone in set(self._paces) - wanted:
            del self._paces[gone]
        behind = [p for p in policies if p.doc.synced < p.doc.generation]
        await asyncio.gather(
            *(self._paced(record.name, self._sync(record)) for record in behind),
            *(self._paced(record.name, self._drive(record)) for record in retunes),
        )

    async def _paced(self, name: str, work: object) -> None:
        pace = self._paces.setdefault(name, _Pace(Backoff(initial=0.5, maximum=10.0)))
        if self._clock.monotonic() < pace.not_before:
            work.close()  # type: ignore[attr-defined]
            return
        with bound(retune=name if name.startswith("retunes/") else None):
            try:
                calm = await work  # type: ignore[misc]
            except Conflict:
                log.info("changed meanwhile; looking again")
                calm = True
            except Exception as error:
                # The store's own trouble, or a defect of ours: neither may stop the others.
                if isinstance(error, KeeptuneError) and error.retryable:
                    log.warning("cannot be written down; trying again", error=error.message)
                else:
                    log.exception("could not be driven; trying again")
                calm = False
        if calm:
            pace.backoff.reset()
        else:
            pace.not_before = self._clock.monotonic() + pace.backoff.next()

    async def _drive(self, record: Record[Retune]) -> bool:
        """Takes a retune as far as it goes now. False asks for a pause before the next look."""
        while not record.doc.state.ended:
            retune = record.doc
            rules = specs.rules_of(specs.parse_spec(retune.spec))
            with bound(study=retune.study):
                try:
                    world = await observe(record.name, retune, self._peers)
                except KeeptuneError as error:
                    return await self._trouble(record, None, error)
                decision = decide(retune, rules, world, self._clock.now())
                match decision:
                    case Wait(reason, next_step):
                        await self._say(record, reason, next_step)
                        return True
                    case Become(state, reason, next_step):
                        after = retune.become(state, self._clock.now(), reason, next_step)
                        log.info("retune", state=state.value, reason=reason)
                    case Do(step):
                        try:
                            after = await steps.take(step, record.name, retune, self._peers)
                        except KeeptuneError as error:
                            return await self._trouble(record, step, error)
                        log.info("step taken", step=step.value)
                        if after == retune:
                            return True
                record = await self._save(record, after)
        return True

    async def _trouble(
        self, record: Record[Retune], step: Step | None, error: KeeptuneError
    ) -> bool:
        what = f"{step.value}: " if step else ""
        if isinstance(error, FailedPrecondition) and error.reason in _PASSING:
            await self._say(record, error.message, error.fix)
            return True
        if error.retryable:
            log.warning("a service did not answer; trying again", step=what, error=error.message)
            await self._say(record, f"{what}{error.message}; trying again", "")
            return False
        log.error("retune failed", step=what, error=error.message, reason=error.reason)
        if record.doc.cancel_requested and isinstance(error, (FailedPrecondition, NotFound)):
            state, reason = RetuneState.CANCELLED, record.doc.cancel_requested
        else:
            state, reason = RetuneState.FAILED, f"{what}{error.message}"
        await self._save(record, record.doc.become(state, self._clock.now(), reason, error.fix))
        return True

    async def _say(self, record: Record[Retune], reason: str, next_step: str) -> None:
        if (record.doc.reason, record.doc.next_step) != (reason, next_step):
            await self._save(record, replace(record.doc, reason=reason, next_step=next_step))

    async def _save(self, record: Record[Retune], retune: Retune) -> Record[Retune]:
        return await self._database.run(lambda c: store.save(c, record, retune))

    async def _sync(self, record: Record[Policy]) -> bool:
        """Brings the registry's model in line with a policy that changed."""
        generation = record.doc.generation
        problem = ""
        try:
            await steps.sync_model(
                specs.parse_spec(record.doc.spec),
                self._peers,
                # A policy made again under its old name counts its generations anew.
                request_id=f"{record.name}/{record.create_time.isoformat()}/{generation}",
            )
        except KeeptuneError as error:
            problem = error.message
            log.warning("the model is not in line with its policy yet", error=problem)
        await self._database.run(lambda c: store.mark_synced(c, record.name, generation, problem))
        return not problem
