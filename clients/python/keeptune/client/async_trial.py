"""A trial in the hands of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from keeptune.client import values
from keeptune.client.persistence import persist
from keeptune.runtime.convert import to_duration
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, KeeptuneError
from keeptune.v1 import search_pb2, types_pb2

if TYPE_CHECKING:
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub

T = TypeVar("T")

log = logging.getLogger("keeptune.client")

_REASON_LENGTH = 4000
_NO_RESULT = "ended without a result: complete(...), infeasible(...) or failed(...) was not called"


class AsyncTrial:
    """Parameters to try, leased to this worker until it says how it went.

    The lease is renewed in the background while the work goes on. As a context manager it turns
    an exception of the work into a failed trial: it is logged, not raised.
    """

    def __init__(
        self,
        search: SearchServiceAsyncStub,
        leased: search_pb2.LeasedTrial,
        *,
        lease_seconds: float,
        patience: float,
    ) -> None:
        self.name: str = leased.trial.name
        self.parameters: dict[str, Any] = values.parameters(leased.trial.parameters)
        # The trial whose checkpoint to load before training; empty = begin anew ("pbt").
        self.continue_from: str = leased.trial.continue_from
        self._search = search
        self._token = leased.lease.token
        self._interval = lease_seconds / 3
        self._patience = patience
        self._directive = search_pb2.TRIAL_DIRECTIVE_CONTINUE
        self._settled = False
        self._last: dict[str, float] = {}
        self._last_step = 0
        self._started = time.monotonic()
        self._heartbeats = asyncio.create_task(self._keep_lease())

    @property
    def number(self) -> int:
        """Counted from 1 within the study."""
        return int(self.name.rpartition("/")[2])

    @property
    def should_stop(self) -> bool:
        """Whether going on is pointless: pruned, the study was stopped, or the lease was lost."""
        return self._directive != search_pb2.TRIAL_DIRECTIVE_CONTINUE

    @property
    def lost(self) -> bool:
        """Whether the trial passed to another worker; what this one says no longer counts."""
        return self._directive == search_pb2.TRIAL_DIRECTIVE_LOST

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self._settled

    async def report(
        self, step: int, metrics: Mapping[str, float] | None = None, /, **named: float
    ) -> bool:
        """Intermediate values at a step (epochs, or any other measure that grows).

        False = stop here: it will not win, or the study was stopped, or the lease was lost.
        `metrics` is for names that are no Python names, such as "val/accuracy".
        """
        self._refuse_if_settled()
        measured = _numbers({**(metrics or {}), **named})
        self._last, self._last_step = measured, step
        if not self.lost:
            await self._send([self._measurement(step, measured)])
        return not self.should_stop

    async def complete(self, metrics: Mapping[str, float] | None = None, /, **named: float) -> bool:
        """Ends the trial with its final values; without any, those of the last report.

        A trial that was told to stop ends as pruned, with its last report. False = it came too
        late (the lease was lost) and changed nothing. Raises InvalidInput for values that are not
        finite or when an objective is missing.
        """
        final = _numbers({**(metrics or {}), **named}) or self._last
        if self.should_stop and not self.lost:
            return await self._end(pruned=search_pb2.Pruned())
        return await self._end(measurement=self._measurement(self._last_step, final))

    async def infeasible(self, reason: str = "") -> bool:
        """Ends the trial: these parameters cannot be evaluated, and the algorithm learns it."""
        return await self._end(infeasible=search_pb2.Infeasible(reason=reason[:_REASON_LENGTH]))

    async def failed(self, reason: str = "") -> bool:
        """Ends the trial: it broke for a reason that lies outside the parameters."""
        return await self._end(failed=search_pb2.Failure(reason=reason[:_REASON_LENGTH]))

    async def fail(self, error: Exception) -> bool:
        """`failed`, with what was raised for its reason."""
        return await self.failed(f"{type(error).__name__}: {error}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return await self.leave(error)

    async def leave(self, error: BaseException | None) -> bool:
        """Ends the work on it; whether `error` is dealt with."""
        if isinstance(error, Exception) and not self._settled:
            log.warning("%s failed", self.name, exc_info=error)
            await self.fail(error)
            return True
        if error is not None:
            await self.release()
            return False
        await self.settle()
        return False

    async def settle(self) -> None:
        """Gives it an outcome if it has none: pruned if it was told to stop, else failed."""
        if self._settled:
            return
        if self.should_stop:
            await self.complete()
        else:
            log.warning("%s %s", self.name, _NO_RESULT)
            await self.failed(_NO_RESULT)

    async def release(self) -> None:
        """No longer keeps the lease; when it has run out the trial goes to whoever asks."""
        self._heartbeats.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._heartbeats

    def _measurement(self, step: int, metrics: Mapping[str, float]) -> types_pb2.Measurement:
        elapsed = timedelta(seconds=time.monotonic() - self._started)
        return types_pb2.Measurement(step=step, metrics=metrics, elapsed=to_duration(elapsed))

    async def _send(self, measurements: list[types_pb2.Measurement]) -> None:
        request = search_pb2.ReportMeasurementsRequest(
            trial=self.name, lease_token=self._token, measurements=measurements
        )
        answer = await self._persist(lambda: self._search.ReportMeasurements(request))
        if answer.directive != search_pb2.TRIAL_DIRECTIVE_UNSPECIFIED and not self.lost:
            self._directive = answer.directive

    async def _end(self, **outcome: Any) -> bool:
        self._refuse_if_settled()
        if self.lost:
            self._settled = True
            await self.release()
            return False
        request = search_pb2.CompleteTrialRequest(
            request_id=str(uuid.uuid4()), trial=self.name, lease_token=self._token, **outcome
        )
        answer = await self._persist(lambda: self._search.CompleteTrial(request))
        self._settled = True
        await self.release()
        return answer.accepted

    async def _keep_lease(self) -> None:
        while not self.lost:
            await asyncio.sleep(self._interval)
            try:
                await self._send([])
            except KeeptuneError as error:
                # The next report says the same to whoever does the work.
                log.warning("the lease of %s cannot be renewed: %s", self.name, error)
                if not error.retryable:
                    return

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await persist(call, patience=self._patience)

    def _refuse_if_settled(self) -> None:
        if self._settled:
            raise FailedPrecondition(
                f"{self.name} has its outcome already", fix="ask the study for the next trial"
            )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Also takes what can become a float: NumPy's numbers, tensors of one element."""
    found = {}
    for name, value in metrics.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            raise InvalidInput(
                field=f"metrics.{name}", problem=f"is {value!r}", fix="give a number"
            ) from None
    return found
