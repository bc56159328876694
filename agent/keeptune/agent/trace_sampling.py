"""Samples by Triton's trace extension, for models that our ONNX shim does not serve.

Needs a server started with `TritonOptions.tracing`, and one whose tracing is sound: before 2.57
traced gRPC requests can crash it (see `sampling.choose_sampling`). Every `interval_seconds` the
settings are set anew, which does three things: files are flushed, a restarted server is armed
again, and `trace_count`, the dead man's switch, is wound up: without the agent the server stops by
itself after `budget` traces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from keeptune.agent.sampling import (
    TRACE_SAFE_SINCE,
    Sample,
    SampleQueue,
    SamplingCounts,
    checked_rates,
)
from keeptune.agent.trace_file import Trace, is_complete, read_traces
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_endpoint import TritonEndpoint
from keeptune.runtime.clock import Clock, SystemClock
from keeptune.runtime.errors import FailedPrecondition, KeeptuneError, NotFound, Unavailable

log = structlog.get_logger()

_OFF = {"trace_level": ("OFF",)}


class TraceSampler:
    """Arms tracing and reads its files; see `sampling.Sampler` for the interface.

    `endpoint_file` is the server's `triton.json`. Models whose rows have more than `max_elements`
    values are not traced: writing them as text would stall serving (90 ms at 150,000).
    """

    def __init__(
        self,
        client: TritonClient,
        endpoint_file: Path,
        *,
        interval_seconds: float = 1.0,
        budget: int = 2000,
        max_elements: int = 20_000,
        force: bool = False,
        queue: SampleQueue | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._endpoint_file = endpoint_file
        self._interval_seconds = interval_seconds
        self._budget = budget
        self._max_elements = max_elements
        self._force = force
        self._clock = clock or SystemClock()
        self._queue = queue or SampleQueue()
        self._rates: dict[str, int] = {}
        self._armed: set[str] = set()
        self._start = -1
        self._counts = SamplingCounts()

    def set_rates(self, rates: Mapping[str, int]) -> None:
        self._rates = checked_rates(rates)

    @property
    def counts(self) -> SamplingCounts:
        return replace(self._counts, overflowed=self._queue.overflowed)

    async def take(self, limit: int = 256) -> list[Sample]:
        return await self._queue.take(limit)

    async def run(self) -> None:
        await self._check_version()
        # What lies there was taken before we watched.
        for file in self._files():
            file.unlink(missing_ok=True)
        try:
            while True:
                try:
                    await self._arm()
                except KeeptuneError as error:
                    log.warning("tracing.not_armed", why=error.message)
                self._read_files()
                await self._clock.sleep(self._interval_seconds)
        finally:
            await self._disarm()

    async def _disarm(self) -> None:
        try:
            for model in self._armed:
                await self._client.set_trace(model, _OFF)
        except KeeptuneError as error:
            # A server that is gone traces nothing, and one that hangs stops at the budget.
            log.warning("tracing.not_disarmed", why=error.message)

    async def _check_version(self) -> None:
        info = await self._client.server()
        if info.numbers < TRACE_SAFE_SINCE and not self._force:
            raise FailedPrecondition(
                f"tracing can crash Triton {info.version}",
                reason="TRACING_UNSAFE",
                fix="use Triton 2.57 or newer, or sample inside the ONNX shim",
            )

    async def _arm(self) -> None:
        endpoint = TritonEndpoint.read(self._endpoint_file)
        if not endpoint.trace_file:
            raise FailedPrecondition(
                "the server was started without tracing",
                reason="TRACING_OFF",
                fix="start it with tracing",
            )
        if endpoint.start != self._start:
            self._start, self._armed = endpoint.start, set()
        for model, every in self._rates.items():
            if await self._fits(model):
                await self._client.set_trace(
                    model,
                    {
                        "trace_level": ("TIMESTAMPS", "TENSORS"),
                        "trace_rate": (str(every),),
                        "trace_count": (str(self._budget),),
                        "log_frequency": ("500",),
                    },
                )
                self._armed.add(model)
        for model in self._armed - self._rates.keys():
            await self._client.set_trace(model, _OFF)
            self._armed.discard(model)

    async def _fits(self, model: str) -> bool:
        if model in self._armed:
            return True
        try:
            signature = await self._client.signature(model)
        except NotFound:
            return False
        specs = (*signature.inputs, *signature.outputs)
        elements = sum(math.prod(max(1, size) for size in spec.shape) for spec in specs)
        if elements > self._max_elements:
            log.warning("tracing.too_large", model=model, elements=elements)
        return elements <= self._max_elements

    def _read_files(self) -> None:
        offset = self._clock.now() - timedelta(seconds=self._clock.monotonic())
        for file in self._files():
            text = file.read_text("latin-1")
            if not is_complete(text):
                continue
            for trace in read_traces(text):
                self._accept(trace, offset)
            file.unlink(missing_ok=True)

    def _accept(self, trace: Trace, offset: datetime) -> None:
        counts = self._counts
        if trace.unreadable or not trace.inputs:
            self._counts = replace(counts, malformed=counts.malformed + 1)
            return
        self._counts = replace(counts, received=counts.received + 1)
        self._queue.put(
            Sample(
                request_id=trace.request_id,
                model=trace.model,
                version=trace.version,
                time=offset + timedelta(microseconds=trace.end_ns // 1000),
                inputs=trace.inputs,
                outputs=trace.outputs,
                failed=not trace.outputs,
            )
        )

    def _files(self) -> Iterator[Path]:
        try:
            base = Path(TritonEndpoint.read(self._endpoint_file).trace_file)
        except (Unavailable, FailedPrecondition):
            return
        numbered = [
            (int(file.suffix[1:]), file)
            for file in base.parent.glob(f"{base.name}.*")
            if file.suffix[1:].isdigit()
        ]
        yield from (file for _, file in sorted(numbered))
