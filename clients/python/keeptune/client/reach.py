"""Whether a service can be reached: said early while a call waits for it, and plainly at the end.

gRPC waits in silence for a server that is away, and then knows only that time is up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keeptune.runtime.addresses import Address, parse_address
from keeptune.runtime.errors import InvalidInput

log = logging.getLogger("keeptune.client")

WARN_AFTER_SECONDS = 2.0
_WARN_AGAIN_SECONDS = 30.0
_PROBE_SECONDS = 1.0


class Reach:
    """The way to one service. `connected` tells whether its channel stands now."""

    def __init__(
        self, service: str, address: str, connected: Callable[[], bool] | None = None
    ) -> None:
        self.service = service
        self.address = address
        self._connected = connected
        self._warned = float("-inf")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a call: warns when it has waited a while for a connection."""
        if self._connected is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(WARN_AFTER_SECONDS, self._warn)
        try:
            yield
        finally:
            timer.cancel()

    async def obstacle(self) -> str:
        """Why no connection can be made now, e.g. "connection refused"; empty when one can."""
        return await asyncio.to_thread(self.obstacle_now)

    def obstacle_now(self) -> str:
        """`obstacle`, for programs without an event loop."""
        if (target := self._target()) is None:
            return ""
        try:
            socket.create_connection((target.host, target.port), timeout=_PROBE_SECONDS).close()
        except OSError as error:
            return _cause(error)
        return ""

    def _target(self) -> Address | None:
        """None for addresses that only gRPC understands."""
        try:
            return parse_address(self.address)
        except InvalidInput:
            return None

    def _warn(self) -> None:
        assert self._connected is not None
        now = time.monotonic()
        if self._connected() or now - self._warned < _WARN_AGAIN_SECONDS:
            return
        self._warned = now
        log.warning(
            "waiting for %s at %s: there is no connection yet; is `keeptune dev` running?",
            self.service,
            self.address,
        )


def _cause(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, socket.gaierror):
        return f"the name is not known: {error.strerror}"
    return (error.strerror or str(error)).lower()
