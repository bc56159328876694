"""Watches every model that this host serves: samples in, outcomes in, signals out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import structlog

from keeptune.agent.captures import CaptureLog
from keeptune.agent.carrier import Carrier
from keeptune.agent.host_store import HostStore
from keeptune.agent.limits import watch_of
from keeptune.agent.model_watch import ModelWatch, Served
from keeptune.agent.outcomes import Joined, JoinResult, Outcome
from keeptune.agent.sampling import Sample, Sampler
from keeptune.agent.signals import SignalBook
from keeptune.agent.tensors import Array
from keeptune.agent.triton import CANARY_ID
from keeptune.agent.triton_model import VersionStatistics
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import NotFound, ResourceExhausted

log = structlog.get_logger()

SEAL_SECONDS = 2.0
SAVE_SECONDS = 10.0
_A_TURN = 32
_GATHER_SECONDS = 0.1


class Watcher:
    """Follows what the disk says is served; one a host. `raised` is called for each new signal."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        store: HostStore,
        book: SignalBook,
        captures_dir: Path,
        clock: Clock,
        seed: int,
        raised: Callable[[], None],
    ) -> None:
        self._sampler = sampler
        self._store = store
        self._book = book
        self._captures_dir = captures_dir
        self._clock = clock
        self._seed = seed
        self._raised = raised
        self._rates: dict[str, int] | None = None
        self.watches: dict[str, ModelWatch] = {}
        self.captures: dict[str, CaptureLog] = {}
        for folder in captures_dir.iterdir() if captures_dir.is_dir() else ():
            # Uploads go on for models that are gone.
            self._capture_log(folder.name)

    def example(self, model: str) -> dict[str, Array]:
        """One row of what the model was asked lately; empty when that is not known."""
        watch = self.watches.get(model)
        return watch.example if watch else {}

    def sync(self, carrier: Carrier) -> None:
        """Makes the watches and the sampling rates those of what is served now."""
        served = {model: carrier.observe(model).serving for model in carrier.models()}
        for model in list(self.watches):
            if not served.get(model):
                del self.watches[model]
                self._book.end_others(model, 0)
        for model, number in served.items():
            if number:
                self._follow(model, number)
        rates = {
            model: watch.watch.sample_every
            for model, watch in self.watches.items()
            if watch.watch.sample_every
        }
        if rates != self._rates:
            self._sampler.set_rates(rates)
            self._rates = rates

    async def take_samples(self) -> None:
        """For ever."""
        while True:
            samples = await self._sampler.take(_A_TURN)
            users = [sample for sample in samples if sample.request_id != CANARY_ID]
            now = self._clock.now().timestamp()
            for model, watch in list(self.watches.items()):
                mine = [sample for sample in users if sample.model == model]
                if mine:
                    await self._take(watch, mine, now)
            # In a burst, receiving and the calls of others go in between; else a few samples
            # are looked at together, which costs little more than one.
            await self._clock.sleep(0.0 if len(samples) == _A_TURN else _GATHER_SECONDS)

    async def record(self, model: str, outcomes: Sequence[Outcome]) -> JoinResult:
        """Joins outcomes; captured rows are on the disk when it returns.

        Raises NotFound for a model that is not served here, ResourceExhausted when the disk is
        full; nothing has changed then.
        """
        watch = self.watches.get(model)
        if watch is None:
            raise NotFound(
                f"models/{model} is not served on this host",
                field="model",
                fix="name one of ListModels",
            )
        now = self._clock.now().timestamp()
        joined, unmatched, repeated = watch.join(outcomes, now)
        try:
            await self._capture(watch, joined)
        except ResourceExhausted:
            watch.joiner.undo(joined)
            raise
        watch.count(joined, now)
        self._judge(watch)
        return JoinResult(joined, unmatched, repeated)

    def poll(self, statistics: Sequence[VersionStatistics], now: float) -> None:
        """Triton's counters."""
        for entry in statistics:
            watch = self.watches.get(entry.model)
            if watch is not None and watch.number == entry.version:
                watch.poll(entry, now)
                self._judge(watch)

    async def seal(self) -> None:
        """Makes batches of what was captured."""
        for captures in list(self.captures.values()):
            if captures.rows_in_journal:
                await asyncio.to_thread(captures.seal)

    async def save(self) -> None:
        """Keeps the detectors' state, so that a restarted agent goes on with it."""
        for watch in list(self.watches.values()):
            self._save_watch(watch)

    @property
    def dropped(self) -> int:
        """Samples that were taken and lost, on the way or here."""
        counts = self._sampler.counts
        return counts.dropped + counts.overflowed + counts.malformed

    def pending_rows(self, model: str) -> int:
        captures = self.captures.get(model)
        if captures is None:
            return 0
        sealed = sum(int(entry.key.split("-")[1]) for entry in captures.spool.entries())
        return sealed + captures.rows_in_journal

    def _follow(self, model: str, number: int) -> None:
        wanted = watch_of(self._store.record(model).monitoring)
        watch = self.watches.get(model)
        if watch is None:
            rng = np.random.default_rng([self._seed, number])
            watch = self.watches[model] = ModelWatch(model, wanted, rng)
        elif wanted != watch.watch:
            watch.configure(wanted)
        if watch.number == number:
            return
        version = self._store.version(model, number)
        if version is None:
            # Put there by somebody else: served, but nothing is known of it.
            watch.number = number
            return
        if watch.number:
            self._save_watch(watch)
        self._book.end_others(model, number)
        served = Served(number, version, self._store.profile(model, number))
        watch.serve(served, self._store.watch(model, number))
        log.info("watch.begins", model=model, version=number, notes=watch.notes)

    def _save_watch(self, watch: ModelWatch) -> None:
        try:
            self._store.put_watch(watch.model, watch.number, watch.save())
        except (FileNotFoundError, ResourceExhausted) as error:
            # Gone in this moment, or no room: a restart begins this watch anew.
            log.warning("watch.not_saved", model=watch.model, why=str(error))

    async def _take(self, watch: ModelWatch, samples: list[Sample], now: float) -> None:
        joined = watch.take(samples, now)
        if joined:
            try:
                await self._capture(watch, joined)
            except ResourceExhausted as error:
                watch.joiner.undo(joined)
                log.warning("captures.not_kept", model=watch.model, why=error.message)
        self._judge(watch)

    async def _capture(self, watch: ModelWatch, joined: Sequence[Joined]) -> None:
        if watch.watch.capture and joined:
            captures = self._capture_log(watch.model, watch.watch.capture_bytes)
            await asyncio.to_thread(captures.append, joined)

    def _capture_log(self, model: str, max_bytes: int = 64 * 2**20) -> CaptureLog:
        if model not in self.captures:
            self.captures[model] = CaptureLog(self._captures_dir / model, max_bytes=max_bytes)
        return self.captures[model]

    def _judge(self, watch: ModelWatch) -> None:
        raised = False
        for kind, finding in watch.findings().items():
            try:
                new = self._book.observe(watch.model, watch.number, kind, finding)
            except ResourceExhausted as error:
                # The finding stays, so the next look tries again.
                log.warning("signal.not_kept", model=watch.model, why=error.message)
                continue
            raised = raised or new is not None
        if raised:
            self._raised()
