"""What a training needs next, from what is. Pure: the supervisor looks, asks here, and does it.

Nothing is remembered between two looks but what `Observed` holds, so a restarted service goes on
where the last one was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.training.model import (
    Checkpoint,
    Measurement,
    TrainedModel,
    Training,
    TrainingState,
)

MOST_LOSSES = 5


@dataclass(frozen=True)
class StudyView:
    """A study as search tells it; counts are of trials."""

    active: bool
    stopped: bool
    running: int
    waiting: int
    completed: int
    # Completed, pruned, infeasible and failed together.
    done: int

    @property
    def over(self) -> bool:
        """No trial runs, and none will."""
        return not self.active and not self.running and (self.stopped or not self.waiting)

    @property
    def has_trials(self) -> bool:
        """Trials may come, or go back to waiting when their worker has died."""
        return self.active or self.running > 0 or (self.waiting > 0 and not self.stopped)


@dataclass(frozen=True)
class Best:
    checkpoint: Checkpoint
    measurement: Measurement


@dataclass(frozen=True)
class Failure:
    reason: str
    next_step: str = ""


@dataclass(frozen=True)
class Observed:
    training: Training
    # How many workers it may have now.
    room: int
    # Indices of the workers at work, and of those that ended because nothing was left for them.
    working: frozenset[int] = frozenset()
    drained: frozenset[int] = frozenset()
    # Workers in a row that died before they measured anything, or gave up; and why the last did.
    losses: int = 0
    trouble: str = ""
    # What cannot be mended by trying again.
    failure: Failure | None = None
    # None = not known now: search cannot be reached.
    study: StudyView | None = None
    # Of a fixed run.
    result: Best | None = None
    model: TrainedModel | None = None


@dataclass(frozen=True)
class Prepare:
    """See that the prepared data are there, then run."""


@dataclass(frozen=True)
class Staff:
    """Start these workers, release those."""

    start: tuple[int, ...] = ()
    release: tuple[int, ...] = ()


@dataclass(frozen=True)
class ChooseBest:
    """The study is over: find its best trial that has a checkpoint."""


@dataclass(frozen=True)
class BeginExport:
    best: Best


@dataclass(frozen=True)
class Succeed:
    model: TrainedModel


@dataclass(frozen=True)
class Fail:
    failure: Failure


@dataclass(frozen=True)
class Wait:
    """Nothing to do; `reason` is why, where that is worth telling."""

    reason: str = ""


Step = Prepare | Staff | ChooseBest | BeginExport | Succeed | Fail | Wait


def decide(seen: Observed) -> Step:
    if not seen.training.active:
        return Wait()
    if seen.failure is not None:
        return Fail(seen.failure)
    if seen.losses >= MOST_LOSSES:
        return Fail(
            Failure(
                f"{seen.losses} workers in a row came to nothing; the last: {seen.trouble}",
                "see to the cause (the service's log tells more), then create another training",
            )
        )
    if seen.training.state is TrainingState.PENDING:
        return Prepare()
    if seen.training.state is TrainingState.EXPORTING:
        return Succeed(seen.model) if seen.model is not None else _one_worker(seen)
    if seen.training.fixed is not None:
        return BeginExport(seen.result) if seen.result is not None else _one_worker(seen)
    return _run_study(seen)


def wanted_workers(seen: Observed, most: int) -> int:
    """How many workers the training could use, of the `most` that the host has."""
    if not seen.training.active or seen.training.state is TrainingState.PENDING:
        return 0
    if seen.training.state is TrainingState.EXPORTING or seen.training.fixed is not None:
        return 1
    if seen.study is not None and not seen.study.has_trials:
        return 0
    # A drained worker is of use again only when a trial came back to wait.
    idle = len(seen.drained) if seen.study is None or not seen.study.waiting else 0
    return max((seen.training.parallelism or most) - idle, len(seen.working))


def _run_study(seen: Observed) -> Step:
    if seen.study is None:
        return Wait("waiting for the search service")
    if seen.study.over:
        return ChooseBest()
    if not seen.study.has_trials:
        return Wait()
    usable = range(seen.training.parallelism or seen.room + len(seen.drained))
    idle = seen.drained if not seen.study.waiting else frozenset()
    free = [index for index in usable if index not in seen.working and index not in idle]
    start = tuple(free[: max(seen.room - len(seen.working), 0)])
    surplus = sorted(seen.working, reverse=True)[: max(len(seen.working) - seen.room, 0)]
    if start or surplus:
        return Staff(start, tuple(surplus))
    return Wait("" if seen.working or idle else "waiting for a free worker process of the host")


def _one_worker(seen: Observed) -> Step:
    if seen.working:
        return Wait()
    if not seen.room:
        return Wait("waiting for a free worker process of the host")
    return Staff(start=(0,))
