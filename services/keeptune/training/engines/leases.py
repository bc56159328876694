"""A worker's dealings with SearchService, as any client in any language would have them.

Calls are repeated while the service cannot be reached; request ids are derived from the worker,
its incarnation and the trial, so that a repeated call is never done twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc
import structlog

from keeptune.runtime.artifacts import to_proto
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.convert import from_duration
from keeptune.runtime.errors import KeeptuneError, from_rpc_error
from keeptune.runtime.names import parse_trial
from keeptune.training.convert import measurement_to_proto
from keeptune.training.engines.trial import (
    Abandoned,
    Completed,
    Directive,
    Failed,
    Infeasible,
    Outcome,
)
from keeptune.training.model import Measurement
from keeptune.v1 import search_pb2, search_pb2_grpc

log = structlog.get_logger()

R = TypeVar("R")

_DEFAULT_LEASE_SECONDS = 60.0
_DEFAULT_RETRY_SECONDS = 1.0
_DIRECTIVES = {
    search_pb2.TRIAL_DIRECTIVE_STOP: Directive.STOP,
    search_pb2.TRIAL_DIRECTIVE_LOST: Directive.LOST,
}


class StudyClient:
    """One worker in one study. `wait(seconds)` sleeps, or returns early when it is released."""

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        study: str,
        worker: str,
        incarnation: str,
        wait: Callable[[float], None],
        released: Callable[[], bool],
    ) -> None:
        self._stub = search_pb2_grpc.SearchServiceStub(channel)
        self._study = study
        self._worker = worker
        self._prefix = f"{worker}/{incarnation}"
        self._asked = 0
        self._wait = wait
        self._released = released
        self._given: search_pb2.SuggestTrialsResponse | None = None
        asked = search_pb2.GetStudyRequest(name=study)
        duration = from_duration(self._insist(lambda: self._stub.GetStudy(asked)).lease_duration)
        self._lease_seconds = duration.total_seconds() if duration else _DEFAULT_LEASE_SECONDS

    def next(self) -> Holding | None:
        """Waits for a trial; None when the study has no more, or the worker is released."""
        while True:
            answer, self._given = self._given, None
            if self._released() and not (answer and answer.trials):
                return None
            if answer is None:
                answer = self._suggest()
            if answer.trials:
                return Holding(self._stub, answer.trials[0], self._lease_seconds, self._prefix)
            if answer.study_state != search_pb2.STUDY_STATE_ACTIVE:
                return None
            pause = from_duration(answer.retry_after)
            self._wait(pause.total_seconds() if pause else _DEFAULT_RETRY_SECONDS)

    def complete(self, holding: Holding, outcome: Outcome) -> None:
        """Ends the trial and takes the next one in the same call."""
        if isinstance(outcome, Abandoned):
            return
        request = search_pb2.CompleteTrialRequest(
            request_id=f"{holding.prefix}/complete",
            trial=holding.trial.name,
            lease_token=holding.token,
            next=0 if self._released() else 1,
        )
        if isinstance(outcome, Completed):
            request.measurement.CopyFrom(measurement_to_proto(outcome.measurement))
            request.artifacts.append(to_proto(outcome.weights))
        elif isinstance(outcome, Infeasible):
            request.infeasible.reason = outcome.reason[:4095]
        elif isinstance(outcome, Failed):
            request.failed.reason = outcome.reason[:4095]
        else:
            request.pruned.SetInParent()
        answer = self._insist(lambda: self._stub.CompleteTrial(request))
        if not answer.accepted:
            log.warning("completed too late", trial=holding.trial.name, reason=answer.reason)
        if answer.HasField("next"):
            self._given = answer.next

    def _suggest(self) -> search_pb2.SuggestTrialsResponse:
        self._asked += 1
        request = search_pb2.SuggestTrialsRequest(
            request_id=f"{self._prefix}/suggest/{self._asked}",
            study=self._study,
            worker=self._worker,
            count=1,
        )
        return self._insist(lambda: self._stub.SuggestTrials(request))

    def _insist(self, call: Callable[[], R]) -> R:
        """Calls until there is an answer; raises only what trying again cannot help."""
        backoff = Backoff(initial=0.2, maximum=5.0)
        while True:
            try:
                return call()
            except grpc.RpcError as raw:
                error = from_rpc_error(raw)
                if not error.retryable:
                    raise error from raw
                pause = backoff.next(error.retry_after or 0.0)
                log.warning("search cannot be reached", error=error.message, again_in=pause)
                time.sleep(pause)


class Holding:
    """A trial held under a lease, kept alive by a thread of its own while the block runs.

    What cannot be reported now is kept and goes with the next report or heartbeat.
    """

    def __init__(
        self,
        stub: search_pb2_grpc.SearchServiceStub,
        leased: search_pb2.LeasedTrial,
        lease_seconds: float,
        prefix: str,
    ) -> None:
        self.trial = leased.trial
        self.token = leased.lease.token
        self.prefix = f"{prefix}/{parse_trial(leased.trial.name)[1]}"
        self._stub = stub
        self._interval = lease_seconds / 3
        self._lock = threading.Lock()
        self._pending: list[Measurement] = []
        self._calls = 0
        self._directive = Directive.CONTINUE
        self._renewed = time.monotonic()
        self._done = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._heart.join()

    @property
    def directive(self) -> Directive:
        return self._directive

    def report(self, measurement: Measurement) -> Directive:
        with self._lock:
            self._pending.append(measurement)
            self._send()
            return self._directive

    def _beat(self) -> None:
        while not self._done.wait(min(1.0, self._interval / 4)):
            if time.monotonic() - self._renewed < self._interval:
                continue
            with self._lock:
                self._send()

    def _send(self) -> None:
        self._calls += 1
        request = search_pb2.ReportMeasurementsRequest(
            request_id=f"{self.prefix}/report/{self._calls}",
            trial=self.trial.name,
            lease_token=self.token,
            measurements=[measurement_to_proto(each) for each in self._pending],
        )
        try:
            answer = self._stub.ReportMeasurements(request)
        except grpc.RpcError as raw:
            self._on_error(from_rpc_error(raw))
            return
        self._pending.clear()
        self._renewed = time.monotonic()
        if self._directive is not Directive.LOST:
            self._directive = _DIRECTIVES.get(answer.directive, Directive.CONTINUE)

    def _on_error(self, error: KeeptuneError) -> None:
        if error.retryable:
            log.warning("report kept for later", trial=self.trial.name, error=error.message)
            return
        # Refused for good: nobody will take the result of this trial from this worker.
        log.error("report refused", trial=self.trial.name, error=error.message)
        self._directive = Directive.LOST
