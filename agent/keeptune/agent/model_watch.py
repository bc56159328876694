"""Watches one served model: its samples, its outcomes and its counters, by the version it serves.

When the version changes, its detectors begin anew with the new version's profile; what is known
of sampled requests stays, because their outcomes still come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from keeptune.agent.detectors.accuracy import AccuracyDetector
from keeptune.agent.detectors.base import Finding
from keeptune.agent.detectors.drift import BURN_IN, DriftDetector, Phase
from keeptune.agent.detectors.health import Baseline, ErrorDetector, LatencyDetector
from keeptune.agent.detectors.reference import Reference
from keeptune.agent.limits import Watch
from keeptune.agent.outcomes import Joined, Outcome, OutcomeJoiner, Remembered
from keeptune.agent.predictions import Reader
from keeptune.agent.sampling import Sample
from keeptune.agent.tensors import Array
from keeptune.agent.triton_model import VersionStatistics
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import deployment_pb2, evaluation_pb2, monitoring_pb2, types_pb2

log = structlog.get_logger()

Arrays = dict[str, NDArray[np.generic]]
_RECENT_POLLS = 10


@dataclass(frozen=True)
class Served:
    """What the watch needs to know of the version that serves."""

    number: int
    version: deployment_pb2.ModelVersion
    profile: bytes = b""


class ModelWatch:
    """One model on this host. Not thread-safe."""

    def __init__(self, model: str, watch: Watch, rng: np.random.Generator) -> None:
        self.model = model
        self.watch = watch
        self.joiner = OutcomeJoiner()
        self.sampled = 0
        self.skipped = 0
        self.notes: tuple[str, ...] = ()
        self.example: dict[str, Array] = {}
        self.number = 0
        self._rng = rng
        self._served: Served | None = None
        self._reader: Reader | None = None
        self._statistics: VersionStatistics | None = None
        self._recent: deque[VersionStatistics] = deque(maxlen=_RECENT_POLLS)
        self._begin(None)

    def serve(self, served: Served, state: Arrays) -> None:
        """From now on `served` is what unversioned requests get; `state` as `save` gave it."""
        baseline = self.latency.baseline if self.number else None
        self.number = served.number
        self._begin(served, baseline)
        if state:
            self._restore(state)

    def configure(self, watch: Watch) -> None:
        """Other limits begin the tests anew; another rate or capture does not."""
        if watch.limits != self.watch.limits:
            self.watch = watch
            self._begin(self._served, self.latency.baseline)
        self.watch = watch

    def take(self, samples: Sequence[Sample], now: float) -> tuple[Joined, ...]:
        """Looks at sampled requests; returns rows whose outcomes had come before them."""
        current = [sample for sample in samples if sample.version == self.number]
        self.skipped += len(samples) - len(current)
        self.sampled += len(current)
        self.errors_sampled.update(sum(s.failed for s in current), len(current), now)
        reader = self._reader
        if reader is None:
            return ()
        joined: list[Joined] = []
        good = [sample for sample in current if not sample.failed]
        for sample, predictions in reader.predictions(good):
            inputs = reader.inputs(sample, len(predictions)) if self.watch.capture else {}
            remembered = Remembered(
                sample.request_id, sample.version, sample.time.timestamp(), predictions, inputs
            )
            joined += self.joiner.remember(remembered, now)
        self._look_at(good, reader)
        self._count(joined, now)
        return tuple(joined)

    def join(self, outcomes: Sequence[Outcome], now: float) -> tuple[tuple[Joined, ...], int, int]:
        """(joined, unmatched, repeated); count the joined ones once they are stored."""
        result = self.joiner.join(outcomes, now)
        return result.joined, result.unmatched, result.repeated

    def count(self, joined: Sequence[Joined], now: float) -> None:
        """Lets outcomes speak for or against the version that serves."""
        self._count(joined, now)

    def poll(self, statistics: VersionStatistics, now: float) -> None:
        """Triton's counters of the version that serves, about once a second."""
        last = self._statistics
        self._statistics = statistics
        self._recent.append(statistics)
        if last is None:
            return
        new = statistics.since(last)
        requests = new.success.count + new.fail.count
        self.errors.update(new.fail.count, requests, now)
        self.latency.update(new.success.count, new.success.ns / 1e6, now)

    def findings(self) -> dict[monitoring_pb2.SignalKind.ValueType, Finding | None]:
        """What is wrong with the version that serves, by kind."""
        return {
            monitoring_pb2.SIGNAL_KIND_DRIFT: self.drift.finding() if self.drift else None,
            monitoring_pb2.SIGNAL_KIND_ACCURACY: (
                self.accuracy.finding() if self.accuracy else None
            ),
            monitoring_pb2.SIGNAL_KIND_ERRORS: (
                self.errors.finding() or self.errors_sampled.finding()
            ),
            monitoring_pb2.SIGNAL_KIND_LATENCY: self.latency.finding(),
        }

    def said(self) -> tuple[str, ...]:
        """What people should know of how well it is watched."""
        if self.drift is None or self.drift.phase is not Phase.BURN_IN:
            return self.notes
        seen = f"{self.drift.samples} of {BURN_IN} samples"
        return (*self.notes, f"learning what this host's traffic is like: {seen}")

    def breach(self) -> str:
        """Why a version that bakes has to go; empty while it is healthy."""
        for finding in (
            self.errors.finding(),
            self.errors_sampled.finding(),
            self.latency.finding(),
        ):
            if finding is not None:
                return finding.note
        return ""

    def statistics(
        self, name: str, *, dropped: int, pending: int
    ) -> monitoring_pb2.ServingStatistics:
        """`name`: of the version; `dropped`: samples of the host; `pending`: captured rows."""
        total = self._statistics
        message = monitoring_pb2.ServingStatistics(
            version=name,
            sampled=self.sampled,
            dropped=dropped,
            outcomes=self.accuracy.outcomes if self.accuracy else 0,
            recent_accuracy=self.accuracy.recent_accuracy if self.accuracy else None,
            drift_level=max(
                self.drift.level if self.drift else -9.0,
                self.accuracy.level if self.accuracy else -9.0,
            ),
            sampling_rate=self.watch.sampling_rate,
            captures_pending=pending,
        )
        if total is not None:
            recent = total.since(self._recent[0]) if len(self._recent) > 1 else total
            recent = recent if recent.success.count else total
            message.requests = total.success.count + total.fail.count
            message.failures = total.fail.count
            message.mean_latency_ms = recent.success.mean_ms
            message.mean_queue_ms = recent.queue.mean_ms
        return message

    def save(self) -> Arrays:
        """The detectors' state, for a restarted agent."""
        state: Arrays = {"sampled": np.array(self.sampled)}
        parts = (("drift", self.drift), ("accuracy", self.accuracy))
        for prefix, part in parts:
            if part is not None:
                state |= {f"{prefix}/{name}": array for name, array in part.save().items()}
        if self.latency.baseline is not None:
            state["latency_ms"] = np.array(self.latency.baseline.mean_ms)
        return state

    def _begin(self, served: Served | None, baseline: Baseline | None = None) -> None:
        limits = self.watch.limits
        self._served = served
        self.sampled = self.skipped = 0
        self._statistics = None
        self._recent.clear()
        self.errors = ErrorDetector(limits)
        self.errors_sampled = ErrorDetector(limits)
        self.latency = LatencyDetector(limits, baseline)
        self.drift: DriftDetector | None = None
        self.accuracy: AccuracyDetector | None = None
        self.notes = ()
        if served is None:
            return
        signature = served.version.signature
        self._reader = Reader(signature)
        profile = _read_profile(served)
        if profile is None:
            self.notes = ("it has no reference profile: drift and accuracy are not watched",)
            return
        self._reader = Reader(signature, [channel.channel for channel in profile.channels])
        try:
            self.drift = DriftDetector(Reference.from_profile(profile), limits, self._rng)
        except InvalidInput as error:
            log.warning("watch.bad_profile", model=self.model, why=error.message)
            self.notes = (f"its reference profile cannot be used: {error.message}",)
        if profile.accuracy > 0 and signature.task == types_pb2.TASK_CLASSIFICATION:
            self.accuracy = AccuracyDetector(profile.accuracy, limits)

    def _restore(self, state: Arrays) -> None:
        self.sampled = int(state.get("sampled", np.array(0)))
        if self.latency.baseline is None and "latency_ms" in state:
            self.latency.baseline = Baseline(float(state["latency_ms"]))
        for prefix, part in (("drift", self.drift), ("accuracy", self.accuracy)):
            mine = {
                name.removeprefix(f"{prefix}/"): array
                for name, array in state.items()
                if name.startswith(f"{prefix}/")
            }
            if part is None or not mine:
                continue
            try:
                part.restore(mine)
            except ValueError as error:
                log.warning("watch.state_not_restored", model=self.model, why=str(error))

    def _look_at(self, samples: Sequence[Sample], reader: Reader) -> None:
        if samples:
            self.example = {name: array[:1] for name, array in samples[-1].inputs.items()}
        if self.drift is None:
            return
        for channels, times in reader.channels(samples):
            self.drift.update(channels, times)

    def _count(self, joined: Sequence[Joined], now: float) -> None:
        if self.accuracy is None:
            return
        for one in joined:
            if one.request.version == self.number:
                self.accuracy.update(one.right, now)


def _read_profile(served: Served) -> evaluation_pb2.ReferenceProfile | None:
    if not served.profile:
        return None
    try:
        return evaluation_pb2.ReferenceProfile.FromString(served.profile)
    except DecodeError:
        log.warning("watch.damaged_profile", version=served.version.name)
        return None
