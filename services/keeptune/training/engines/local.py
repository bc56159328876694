"""Worker processes on this host: forked from a warm nursery, followed over a socket pair each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog

from keeptune.runtime.errors import Unavailable
from keeptune.training.engines.messages import (
    Job,
    Message,
    Release,
    from_line,
    job_to_line,
    to_line,
)

log = structlog.get_logger()

_RETRY_SECONDS = 5.0
_LONGEST_LINE = 1 << 20
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Counting devices must not start CUDA before a fork.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # Repeatable matrix products on GPUs.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


class Worker:
    """One worker process at one job."""

    def __init__(self, job: Job, pid: int, connection: socket.socket) -> None:
        self.job = job
        self.pid = pid
        self._connection = connection
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def messages(self) -> AsyncIterator[Message]:
        """Gives it the job, then what it says, until the process is gone."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._connection, limit=_LONGEST_LINE
        )
        try:
            self._writer.write(job_to_line(self.job))
            while line := await self._reader.readline():
                # A process that was killed may leave half a line.
                if line.endswith(b"\n"):
                    yield from_line(line)
        except ConnectionError:
            return
        finally:
            self._writer.close()

    def release(self) -> None:
        """Asks it to end after the trial in hand."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(to_line(Release()))

    def kill(self) -> None:
        """Ends it at once; its lease, if any, will run out."""
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._writer is not None:
            self._writer.close()

    async def ended(self) -> str:
        """How the process ended, in words; waits for it."""
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(asyncio.shield(self._exit), timeout=5.0)
            return _describe(status)
        return "has gone"

    def on_exit(self, status: int) -> None:
        if not self._exit.done():
            self._exit.set_result(status)


@dataclass
class _Nursery:
    process: subprocess.Popen[bytes]
    control: socket.socket
    gpus: int
    # Answers to requests, in their order; None when it died.
    forked: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)
    # Workers that ended before anybody had heard of them.
    ended: dict[int, int] = field(default_factory=dict)


class LocalEngine:
    """The host's worker processes. One nursery serves them all and is replaced when it dies."""

    def __init__(self) -> None:
        self._nursery: _Nursery | None = None
        self._failed_at = -math.inf
        self._starting = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._workers: dict[int, Worker] = {}

    async def gpus(self) -> int:
        """CUDA devices of this host; waits for the nursery."""
        async with self._starting:
            return (await self._ready()).gpus

    async def start(self, job: Job) -> Worker:
        """Forks a worker; `messages` of it gives it the job.

        Takes milliseconds once the nursery is warm. Raises Unavailable when it does not start.
        """
        async with self._starting:
            nursery = await self._ready()
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            try:
                with theirs:
                    socket.send_fds(nursery.control, [b"w"], [theirs.fileno()])
                pid = await nursery.forked.get()
            except OSError as error:
                ours.close()
                raise Unavailable(f"the worker nursery is gone: {error}") from error
            if pid is None:
                ours.close()
                raise Unavailable("the worker nursery died", retry_after=1.0)
            worker = Worker(job, pid, ours)
            self._workers[pid] = worker
            if pid in nursery.ended:
                worker.on_exit(nursery.ended.pop(pid))
            return worker

    async def warm(self) -> None:
        """Starts the nursery ahead of need."""
        async with self._starting:
            await self._ready()

    async def close(self) -> None:
        """Ends the nursery and with it every worker."""
        for worker in list(self._workers.values()):
            worker.kill()
        nursery, self._nursery = self._nursery, None
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if nursery is not None:
            nursery.control.close()
            nursery.process.kill()
            await asyncio.to_thread(nursery.process.wait)

    async def _ready(self) -> _Nursery:
        if self._nursery is None:
            if time.monotonic() - self._failed_at < _RETRY_SECONDS:
                raise Unavailable("the worker nursery does not start", retry_after=_RETRY_SECONDS)
            self._nursery = await self._open_nursery()
        return self._nursery

    async def _open_nursery(self) -> _Nursery:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = _spawn(theirs)
        except OSError as error:
            ours.close()
            self._failed_at = time.monotonic()
            raise Unavailable(
                f"the worker nursery cannot be started: {error}", retry_after=_RETRY_SECONDS
            ) from error
        control = ours.dup()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            hello = await reader.readline()
        except BaseException:
            process.kill()
            process.wait()
            writer.close()
            raise
        if not hello:
            writer.close()
            self._failed_at = time.monotonic()
            status = await asyncio.to_thread(process.wait)
            raise Unavailable(
                f"the worker nursery {_describe(status)}; its last words are in the log",
                retry_after=_RETRY_SECONDS,
            )
        nursery = _Nursery(process, control, json.loads(hello)["gpus"])
        self._following = asyncio.create_task(self._follow(nursery, reader, writer))
        return nursery

    async def _follow(
        self, nursery: _Nursery, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hands on what the nursery says; when it is gone, so are its workers."""
        try:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    said = json.loads(line)
                    if "forked" in said:
                        nursery.forked.put_nowait(said["forked"])
                    elif worker := self._workers.pop(said["exited"], None):
                        worker.on_exit(said["status"])
                    else:
                        nursery.ended[said["exited"]] = said["status"]
        finally:
            writer.close()
        if self._nursery is nursery:
            self._nursery = None
        nursery.control.close()
        status = await asyncio.to_thread(nursery.process.wait)
        log.warning("worker nursery ended", how=_describe(status))
        nursery.forked.put_nowait(None)
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.on_exit(-signal.SIGKILL)


def _spawn(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "keeptune.training.engines.nursery", str(control.fileno())],
        pass_fds=[control.fileno()],
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        # What libraries print is for the log, not for whoever reads the service's output.
        stdout=2,
        # A terminal's Ctrl-C is the service's business.
        start_new_session=True,
    )


def _describe(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
