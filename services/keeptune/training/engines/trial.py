"""One trial: fit, measure, report every epoch, keep the checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog

from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.errors import InvalidInput, KeeptuneError
from keeptune.training import checkpoint
from keeptune.training.engines.link import Link
from keeptune.training.engines.messages import Job
from keeptune.training.model import Anomaly, AnomalyKind, Measurement, Progress, Scalar
from keeptune.training.trainers.parameters import complete
from keeptune.training.trainers.protocol import (
    Epoch,
    FitContext,
    FittedModel,
    NotFiniteError,
    Trainer,
    TrainingData,
)

log = structlog.get_logger()


class Directive(Enum):
    """What is wanted of a running trial."""

    CONTINUE = "continue"
    # Pruned, or the study was stopped.
    STOP = "stop"
    # Another worker has it, or it has ended.
    LOST = "lost"


class Observer(Protocol):
    """Whom a trial reports to."""

    @property
    def directive(self) -> Directive: ...

    def report(self, measurement: Measurement) -> Directive: ...


@dataclass(frozen=True)
class Completed:
    measurement: Measurement
    weights: Artifact


@dataclass(frozen=True)
class Pruned:
    pass


@dataclass(frozen=True)
class Abandoned:
    pass


@dataclass(frozen=True)
class Infeasible:
    """These parameters cannot work."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """It broke for reasons outside its parameters."""

    reason: str


Outcome = Completed | Pruned | Abandoned | Infeasible | Failed


class TrialRunner:
    """Runs one trial after the other on the job's data."""

    def __init__(
        self, job: Job, trainer: Trainer, data: TrainingData, artifacts: ArtifactStore, link: Link
    ) -> None:
        self._job = job
        self._trainer = trainer
        self._data = data
        self._artifacts = artifacts
        self._link = link

    def run(
        self, name: str, parameters: Mapping[str, Scalar], seed: int, observer: Observer
    ) -> Outcome:
        """`name` is the trial's, or empty for a fixed run. Raises what trying again can mend."""
        try:
            full = complete(self._trainer.parameters, parameters, field="parameters")
        except InvalidInput as error:
            return Infeasible(error.message)
        epochs = self._job.epochs or self._trainer.default_epochs
        context = FitContext(
            data=self._data,
            parameters=full,
            epochs=epochs,
            seed=seed,
            device=self._job.device,
            recipe=self._job.recipe,
            stopped=lambda: observer.directive is not Directive.CONTINUE,
        )
        try:
            return self._fit(name, context, observer)
        except NotFiniteError as error:
            self._link.send(
                Anomaly(
                    trial=name,
                    kind=AnomalyKind.NOT_FINITE,
                    step=error.step,
                    evidence=error.evidence,
                    action="the trial ends as infeasible" if name else "the training fails",
                )
            )
            return Infeasible(error.evidence)
        except KeeptuneError as error:
            if error.retryable:
                # A full disk, say: the next attempt may do better, so the trial must not end.
                raise
            return Failed(error.message)
        except Exception as error:
            log.exception("trainer failed", trial=name, trainer=self._job.trainer)
            return Failed(f"{self._job.trainer} raised {type(error).__name__}: {error}"[:1000])

    def _fit(self, name: str, context: FitContext, observer: Observer) -> Outcome:
        started = time.monotonic()
        last: tuple[Epoch, Measurement] | None = None
        for epoch in self._trainer.fit(context):
            measurement = Measurement(epoch.step, epoch.metrics, time.monotonic() - started)
            _check_finite(measurement)
            self._link.send(Progress(name, measurement, self._job.worker))
            directive = observer.report(measurement)
            last = epoch, measurement
            # To stop after the last epoch would only throw the result away.
            if directive is Directive.STOP and epoch.step < context.epochs:
                return Pruned()
            if directive is Directive.LOST:
                return Abandoned()
        if observer.directive is Directive.LOST:
            return Abandoned()
        if last is not None and last[0].step == context.epochs:
            return Completed(last[1], self._store(name, context, last[0]))
        if observer.directive is Directive.STOP:
            return Pruned()
        return Failed(f"{self._job.trainer} ended before its {context.epochs} epochs")

    def _store(self, name: str, context: FitContext, epoch: Epoch) -> Artifact:
        fitted = FittedModel(
            parameters=context.parameters,
            signature=self._trainer.signature(self._data),
            feature_names=self._data.feature_names,
            weights=epoch.weights(),
        )
        return checkpoint.write(
            fitted,
            trainer=self._job.trainer,
            trainer_version=self._trainer.version,
            artifacts=self._artifacts,
            filename=f"{name.replace('/', '-') or 'run'}.safetensors",
        )


def _check_finite(measurement: Measurement) -> None:
    for name, value in measurement.metrics.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                measurement.step, f"{name} became {value} in epoch {measurement.step}"
            )
