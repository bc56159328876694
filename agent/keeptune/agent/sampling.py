"""Samples of the requests a server answers, taken with no proxy in their path.

Two ways, behind one interface: `ShimSampler` here (the ONNX shim sends datagrams; exact) and
`trace_sampling.TraceSampler` (Triton's trace extension; only where the server is new enough).

A sampler is armed for a lease that `run` keeps renewing: when the agent is gone, sampling ends by
itself. Nothing a sampler does can hold up serving: what the agent is too slow for is dropped, and
every drop is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from keeptune.agent import datagram
from keeptune.agent.datagram import DatagramError
from keeptune.agent.tensors import Array
from keeptune.agent.triton import CANARY_ID
from keeptune.agent.triton_model import ServerInfo
from keeptune.runtime.clock import Clock, SystemClock
from keeptune.runtime.errors import FailedPrecondition, InvalidInput

MAX_RATE: Final = 1_000_000
TRACE_SAFE_SINCE: Final = (2, 57)
"""Before this version of Triton (25.04) tracing can crash the server."""
_DATAGRAMS_A_TURN = 64
_INSTANCES_KEPT = 1024


@dataclass(frozen=True, eq=False)
class Sample:
    """One sampled request and its response."""

    request_id: str
    """As the client gave it; empty when it gave none."""
    model: str
    version: int
    time: datetime
    """When it was answered, UTC."""
    inputs: Mapping[str, Array]
    """With their batch dimension."""
    outputs: Mapping[str, Array]
    """Empty when the request failed."""
    failed: bool = False

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(array.nbytes for array in (*self.inputs.values(), *self.outputs.values()))


@dataclass(frozen=True)
class SamplingCounts:
    """What became of the samples since the sampler was made."""

    received: int = 0
    dropped: int = 0
    """Not sent by the server, because the agent was away or slow."""
    too_large: int = 0
    """Arrived without their tensors, which were above the limit of a datagram."""
    malformed: int = 0
    overflowed: int = 0
    """Thrown away here, oldest first, because nobody took them in time."""


class Sampler(Protocol):
    """Where samples come from. One agent uses one sampler a server."""

    def set_rates(self, rates: Mapping[str, int]) -> None:
        """Samples one in `rates[model]` requests from now on; models not named are not sampled.

        Holds within a second, with no reload of a model. Raises InvalidInput for a rate that is
        not between 1 and MAX_RATE.
        """
        ...

    async def run(self) -> None:
        """Receives samples and keeps the lease until it is cancelled; disarms at the end."""
        ...

    async def take(self, limit: int = 256) -> list[Sample]:
        """Waits until there are samples and returns the oldest of them, at most `limit`."""
        ...

    @property
    def counts(self) -> SamplingCounts: ...


def choose_sampling(server: ServerInfo, *, shim_serves: bool) -> Literal["shim", "trace"]:
    """The sound way to sample a server's models.

    `shim_serves`: our ONNX shim runs the models, as it does on every server that
    `run_tritonserver` starts. Raises FailedPrecondition when no way is sound.
    """
    if shim_serves:
        return "shim"
    if server.numbers >= TRACE_SAFE_SINCE:
        return "trace"
    raise FailedPrecondition(
        f"requests cannot be sampled: tracing can crash Triton {server.version}",
        reason="TRACING_UNSAFE",
        fix="use Triton 2.57 or newer, or package the models for the python backend",
    )


class SampleQueue:
    """A bounded queue, which throws away the oldest when it is full, by number or by bytes."""

    def __init__(self, max_samples: int = 4096, max_bytes: int = 16 * 2**20) -> None:
        self._samples: deque[Sample] = deque()
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._bytes = 0
        self._filled = asyncio.Event()
        self.overflowed = 0

    def put(self, sample: Sample) -> None:
        """Adds a sample; our own canaries are not samples of anything and are passed over."""
        if sample.request_id == CANARY_ID:
            return
        self._samples.append(sample)
        self._bytes += sample.size
        while len(self._samples) > self._max_samples or self._bytes > self._max_bytes:
            self._pop()
            self.overflowed += 1
        if self._samples:
            self._filled.set()

    async def take(self, limit: int) -> list[Sample]:
        while not self._samples:
            self._filled.clear()
            await self._filled.wait()
        return [self._pop() for _ in range(min(limit, len(self._samples)))]

    def _pop(self) -> Sample:
        sample = self._samples.popleft()
        self._bytes -= sample.size
        return sample


class ShimSampler:
    """Receives what the ONNX shims of one server send; see `shim/model.py` for the protocol.

    `folder` is the server's sampling folder (`TritonOptions.sampling_dir`). The shims read the
    rates from there, so a restarted server or a newly loaded model is sampled with no further
    doing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_seconds: float = 30.0,
        queue: SampleQueue | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._lease_seconds = lease_seconds
        self._clock = clock or SystemClock()
        self._queue = queue or SampleQueue()
        self._rates: dict[str, int] = {}
        self._counts = SamplingCounts()
        self._dropped: OrderedDict[int, int] = OrderedDict()
        self._armed = False

    def set_rates(self, rates: Mapping[str, int]) -> None:
        self._rates = checked_rates(rates)
        if self._armed:
            self._write_rates(self._lease_seconds)

    @property
    def counts(self) -> SamplingCounts:
        return replace(self._counts, overflowed=self._queue.overflowed)

    async def take(self, limit: int = 256) -> list[Sample]:
        return await self._queue.take(limit)

    async def run(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / "samples.sock"
        receiver = _bind(path)
        loop = asyncio.get_running_loop()
        loop.add_reader(receiver, self._receive, receiver)
        self._armed = True
        try:
            while True:
                self._write_rates(self._lease_seconds)
                await self._clock.sleep(self._lease_seconds / 3)
        finally:
            self._armed = False
            loop.remove_reader(receiver)
            receiver.close()
            path.unlink(missing_ok=True)
            self._write_rates(0.0)

    def _receive(self, receiver: socket.socket) -> None:
        # A bounded number a turn, so that a flood of samples cannot starve the loop.
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data = receiver.recv(datagram.MAX_SIZE)
            except BlockingIOError:
                return
            self._accept(data)

    def _accept(self, data: bytes) -> None:
        counts = self._counts
        try:
            got = datagram.decode(data)
        except DatagramError:
            self._counts = replace(counts, malformed=counts.malformed + 1)
            return
        dropped = counts.dropped + self._newly_dropped(got.instance, got.dropped)
        if got.too_large:
            self._counts = replace(counts, dropped=dropped, too_large=counts.too_large + 1)
            return
        self._counts = replace(counts, dropped=dropped, received=counts.received + 1)
        self._queue.put(
            Sample(
                got.request_id,
                got.model,
                got.version,
                got.time,
                got.inputs,
                got.outputs,
                got.failed,
            )
        )

    def _newly_dropped(self, instance: int, dropped: int) -> int:
        """Each instance tells its drops so far; those from before we knew it count as well."""
        before = self._dropped.pop(instance, 0)
        self._dropped[instance] = dropped
        if len(self._dropped) > _INSTANCES_KEPT:
            self._dropped.popitem(last=False)
        return max(0, dropped - before)

    def _write_rates(self, lease_seconds: float) -> None:
        # The system's monotonic clock is shared with the shims; no step of the wall time moves it.
        content = {
            "expires_ns": int((self._clock.monotonic() + lease_seconds) * 1e9),
            "rates": self._rates,
        }
        partial = self._folder / ".rates.json.tmp"
        partial.write_text(json.dumps(content))
        os.replace(partial, self._folder / "rates.json")


def checked_rates(rates: Mapping[str, int]) -> dict[str, int]:
    """The rates, when all are sound. Raises InvalidInput."""
    for model, every in rates.items():
        if not 1 <= every <= MAX_RATE:
            raise InvalidInput(
                field=f"rates[{model}]",
                problem=f"is {every}; one in 1 to {MAX_RATE} requests can be sampled",
                fix="leave the model out to stop sampling it",
            )
    return dict(rates)


def _bind(path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    # Left by an agent that was killed. That it is not another live one, its lock has told.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    try:
        receiver.bind(str(path))
    except OSError as error:
        receiver.close()
        raise FailedPrecondition(
            f"cannot receive samples at {path}: {error}",
            reason="SAMPLING_SOCKET",
            fix="choose a state folder with a path below 90 characters",
        ) from error
    path.chmod(0o600)
    return receiver
