"""The parts of the demo, each a process of its own with its log in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

_STOP_SECONDS = 20.0
# The child itself asks to end with its parent. A preexec_fn would do it too, but it makes Python
# fork this process, and gRPC's threads do not survive a fork.
_BOOTSTRAP = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from keeptune.cli.main import main
main()
"""


class PartError(Exception):
    """A part did not start, or stopped by itself."""


class Part:
    """One `keeptune ...` process; `kill` and `start` again make a crash and a restart."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = [sys.executable, "-c", _BOOTSTRAP, *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Stopped, and nobody asked it to."""
        return self._wanted and not self.running

    def start(self) -> None:
        self._wanted = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def kill(self) -> None:
        """As a crash would: no goodbye."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Asks it to end, and makes sure."""
        self._wanted = False
        if not self.running:
            return
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    async def until(
        self, ready: Callable[[], Awaitable[bool]], *, seconds: float, what: str
    ) -> None:
        """Waits for `ready`. Raises PartError when the part stops or the time is over."""
        deadline = time.monotonic() + seconds
        while not await ready():
            if not self.running:
                raise PartError(f"{self.name} stopped before {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PartError(f"{what}: not within {seconds:.0f} s:\n{self.tail()}")
            await asyncio.sleep(0.1)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
