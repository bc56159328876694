"""What leaves the spools for the control plane: captured samples, and requests for retunes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import grpc
import structlog

from keeptune.agent.captures import CaptureBatch, CaptureLog
from keeptune.agent.signals import ASK_AGAIN_SECONDS, Entry, SignalBook
from keeptune.agent.watcher import Watcher
from keeptune.runtime import names
from keeptune.runtime.calls import calling
from keeptune.runtime.clock import Clock
from keeptune.runtime.convert import to_timestamp
from keeptune.runtime.errors import KeeptuneError
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc, retuning_pb2, retuning_pb2_grpc

log = structlog.get_logger()

_CHUNK = 256 * 1024
_UPLOAD_SECONDS = 60.0
_REFUSED_RETRY_SECONDS = 60.0
_COOLDOWN_RETRY_SECONDS = 30.0


class CaptureUploader:
    """Sends sealed batches, oldest first, until each is acknowledged."""

    def __init__(
        self, host: str, stub: deployment_pb2_grpc.AgentLinkAsyncStub, watcher: Watcher
    ) -> None:
        self._host = host
        self._stub = stub
        self._watcher = watcher
        self.refused = 0

    async def run_once(self) -> None:
        """Raises a temporary error when the control plane cannot take them now."""
        await self._watcher.seal()
        for model, captures in list(self._watcher.captures.items()):
            for entry in captures.spool.entries():
                batch = await asyncio.to_thread(captures.read, entry)
                if batch is not None:
                    await self._send(model, captures, batch)

    async def _send(self, model: str, captures: CaptureLog, batch: CaptureBatch) -> None:
        header = deployment_pb2.CaptureHeader(
            request_id=batch.key,
            host=names.host_name(self._host),
            model=names.model_name(model),
            version=names.version_name(model, batch.version),
            rows=batch.rows,
            first_time=to_timestamp(datetime.fromtimestamp(batch.first_time, UTC)),
            last_time=to_timestamp(datetime.fromtimestamp(batch.last_time, UTC)),
            sha256=batch.sha256,
        )
        try:
            await calling(
                self._stub.UploadCapture(_parts(header, batch.content), timeout=_UPLOAD_SECONDS)
            )
        except KeeptuneError as failure:
            if not _is_final(failure):
                raise
            # It would be refused again for ever, and hold up all behind it.
            self.refused += 1
            captures.rows_dropped += batch.rows
            log.error("captures.refused", model=model, rows=batch.rows, why=failure.message)
        await asyncio.to_thread(captures.spool.remove, batch.key)


class RetuneRequester:
    """Asks for a retune for each signal that wants one, until that is granted or of no use."""

    def __init__(
        self,
        stub: retuning_pb2_grpc.RetuningServiceAsyncStub,
        book: SignalBook,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._stub = stub
        self._book = book
        self._clock = clock
        self._changed = changed

    async def run_once(self) -> None:
        """Raises a temporary error when the retuning service cannot be asked now."""
        for entry in self._book.wanted(self._clock.now().timestamp()):
            await self._ask(entry)

    async def _ask(self, entry: Entry) -> None:
        signal = entry.signal
        request = retuning_pb2.RequestRetuneRequest(
            request_id=entry.request_id,
            model=signal.model,
            evidence=[signal],
            note=signal.summary[:1000],
        )
        now = self._clock.now().timestamp()
        try:
            answer = await calling(self._stub.RequestRetune(request))
        except KeeptuneError as failure:
            if failure.retryable:
                raise
            # E.g. no policy for this model yet.
            log.warning("retune.refused", signal=signal.id, why=failure.message)
            retry_at = now + _REFUSED_RETRY_SECONDS
            await asyncio.to_thread(self._book.refused, signal.id, failure.message, retry_at)
            return
        decision = retuning_pb2.RequestDecision.Name(answer.decision)
        said = decision.removeprefix("REQUEST_DECISION_")
        log.info(
            "retune.answer",
            signal=signal.id,
            decision=said,
            retune=answer.retune.name,
            why=answer.reason,
        )
        refusal = f"{said}: {answer.reason}" if answer.reason else said
        if answer.decision == retuning_pb2.REQUEST_DECISION_COOLDOWN:
            wait = answer.retry_after.ToTimedelta().total_seconds() or _COOLDOWN_RETRY_SECONDS
            await asyncio.to_thread(self._book.refused, signal.id, refusal, now + wait)
        elif answer.decision == retuning_pb2.REQUEST_DECISION_STALE:
            retry_at = now + ASK_AGAIN_SECONDS
            await asyncio.to_thread(self._book.refused, signal.id, refusal, retry_at)
        else:
            said = f"{said} {answer.retune.name}"
            await asyncio.to_thread(self._book.granted, signal.id, said, now)
        self._changed()


def _is_final(failure: KeeptuneError) -> bool:
    """What a fixed batch is refused for, in contrast to who sends it, and when."""
    return failure.code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.ALREADY_EXISTS,
    )


async def _parts(
    header: deployment_pb2.CaptureHeader, content: bytes
) -> AsyncIterator[deployment_pb2.UploadCaptureRequest]:
    yield deployment_pb2.UploadCaptureRequest(header=header)
    for start in range(0, len(content), _CHUNK):
        yield deployment_pb2.UploadCaptureRequest(data=content[start : start + _CHUNK])
