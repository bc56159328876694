"""The workers of one training: in memory only, and rebuilt from nothing after a restart."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter, Gauge

from keeptune.runtime.clock import Clock
from keeptune.training.decide import Best, Failure
from keeptune.training.engines.local import LocalEngine, Worker
from keeptune.training.engines.messages import (
    Broken,
    Drained,
    Exported,
    FixedDone,
    Job,
    Leased,
    Message,
    TrialEnded,
)
from keeptune.training.model import (
    Anomaly,
    AnomalyKind,
    Checkpoint,
    Progress,
)

workers_now = Gauge("keeptune_training_workers", "Worker processes at work.")
lost_total = Counter("keeptune_training_workers_lost_total", "Worker processes that died.")
epochs_total = Counter("keeptune_training_epochs_total", "Epochs measured.")
trials_total = Counter(
    "keeptune_training_trials_total", "Trials this service ended, by outcome.", ["outcome"]
)

log = structlog.get_logger()

# A trial that has killed so many workers is not tried again.
_DEADLY = 3
_LONGEST_PAUSE = 30.0

Note = Callable[[Progress | Anomaly], Awaitable[None]]


class Run:
    """Starts a training's workers, follows what they say, and notices when one dies.

    `note` keeps progress and anomalies; `wake` is called when there is something to decide.
    """

    def __init__(
        self, engine: LocalEngine, clock: Clock, note: Note, wake: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._note = note
        self._wake = wake
        self._workers: dict[int, Worker] = {}
        self._following: dict[int, asyncio.Task[None]] = {}
        self._trials: dict[int, str] = {}
        self._deaths: collections.Counter[str] = collections.Counter()
        self._not_before = 0.0
        self._in_a_row = 0
        self._died = 0
        self._gave_up = 0
        self.drained: set[int] = set()
        self.trouble = ""
        self.failure: Failure | None = None
        self.result: Best | None = None
        self.exported: Exported | None = None

    @property
    def working(self) -> frozenset[int]:
        return frozenset(self._following)

    @property
    def losses(self) -> int:
        """Workers in a row that died before they measured anything, or gave their trial up."""
        return max(self._died, self._gave_up)

    @property
    def may_start(self) -> bool:
        """False for a while after workers died in a row."""
        return self._clock.monotonic() >= self._not_before

    @property
    def give_up(self) -> tuple[str, ...]:
        """Trials that have killed their worker too often."""
        return tuple(sorted(trial for trial, count in self._deaths.items() if count >= _DEADLY))

    async def start(self, index: int, job: Job) -> None:
        """Raises Unavailable when no worker can be started now."""
        worker = await self._engine.start(job)
        self.drained.discard(index)
        self._workers[index] = worker
        workers_now.inc()
        self._following[index] = asyncio.create_task(self._follow(index, worker), name=job.worker)
        log.info("worker started", worker=job.worker, pid=worker.pid)

    def release(self, index: int) -> None:
        self._workers[index].release()

    async def close(self) -> None:
        """Kills its workers; what they held goes back when their leases end."""
        for worker in self._workers.values():
            worker.kill()
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, index: int, worker: Worker) -> None:
        orderly = False
        try:
            async for message in worker.messages():
                orderly = await self._hear(index, message) or orderly
            # Its place is free only when the process has gone, and its memory with it.
            how = await worker.ended()
            if not orderly:
                await self._mourn(index, worker, how)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("cannot follow worker", worker=worker.job.worker)
            worker.kill()
            self._died += 1
            self._pause()
        finally:
            workers_now.dec()
            self._workers.pop(index, None)
            self._following.pop(index, None)
            self._trials.pop(index, None)
            self._wake()

    async def _hear(self, index: int, message: Message) -> bool:
        """Whether it was the worker's last word."""
        match message:
            case Progress():
                self._died = self._in_a_row = 0
                epochs_total.inc()
                await self._note(message)
                return False
            case Anomaly():
                await self._note(message)
                return False
            case Leased(trial):
                self._trials[index] = trial
                return False
            case TrialEnded(_, outcome):
                self._trials.pop(index, None)
                self._died = self._gave_up = self._in_a_row = 0
                trials_total.labels(outcome.lower()).inc()
                self._wake()
                return False
            case Drained(released):
                if not released:
                    self.drained.add(index)
            case FixedDone(measurement, weights):
                self.result = Best(Checkpoint(weights), measurement)
            case Exported():
                self.exported = message
            case Broken(reason, next_step, temporary):
                if temporary:
                    self.trouble = reason
                    self._gave_up += 1
                    self._pause()
                else:
                    self.failure = Failure(reason, next_step)
            case _:
                raise ValueError(f"a worker said {message!r}")
        return True

    async def _mourn(self, index: int, worker: Worker, how: str) -> None:
        trial = self._trials.get(index, "")
        log.warning("worker lost", worker=worker.job.worker, pid=worker.pid, how=how, trial=trial)
        lost_total.inc()
        if trial:
            # The trial may be at fault; if not, search ends it after its last attempt.
            self._deaths[trial] += 1
        else:
            self._died += 1
            self.trouble = how
        self._pause()
        await self._note(
            Anomaly(
                trial=trial,
                kind=AnomalyKind.WORKER_LOST,
                step=0,
                evidence=f"{worker.job.worker} (process {worker.pid}) {how}",
                action="another process takes its place"
                + (f" and {trial} starts again" if trial else ""),
            )
        )

    def _pause(self) -> None:
        """The first to be lost is replaced at once, the next ones after growing pauses."""
        self._in_a_row += 1
        if self._in_a_row > 1:
            seconds = min(2.0 ** (self._in_a_row - 4), _LONGEST_PAUSE)
            self._not_before = self._clock.monotonic() + seconds
