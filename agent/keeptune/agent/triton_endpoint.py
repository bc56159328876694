"""Where a running Triton is reached, as its supervisor writes it down for the agent."""

from __future__ import annotations

import json
import os
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import FailedPrecondition, Unavailable

_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class TritonEndpoint:
    """Where a running server is reached, and what a caller must know of it."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    control_token: str
    """Must accompany calls that change models or tracing (see `TritonClient`)."""
    pid: int
    start: int
    """Grows by one with every start of the server, also over the supervisor's restarts."""
    trace_file: str
    """Base of the rotated trace files of this start; empty without tracing."""
    backends: tuple[str, ...] = ()
    """What can be served: our shim makes `onnxruntime` one of them."""

    @property
    def grpc_address(self) -> str:
        return f"{self.host}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self.host}:{self.metrics_port}/metrics"

    @classmethod
    def read(cls, file: Path) -> TritonEndpoint:
        """Reads `triton.json`. Raises Unavailable when no server has written it yet."""
        try:
            content = json.loads(file.read_text())
            return cls(**{**content, "backends": tuple(content["backends"])})
        except FileNotFoundError:
            raise Unavailable(
                f"no Triton has been started here: {file} does not exist", retry_after=1.0
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise FailedPrecondition(
                f"{file} is not a Triton endpoint: {error}",
                reason="BAD_ENDPOINT_FILE",
                fix="delete it and start Triton anew",
            ) from error

    def write(self, file: Path) -> None:
        partial = file.with_name(f".{file.name}.tmp")
        # It holds the control token, so nobody else may read it.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(asdict(self), out)
        os.replace(partial, file)


async def choose_port(field: str, host: str, given: int, last: int, clock: Clock) -> int:
    """`given` when it is not 0, else the `last` one if it is free, else any free one.

    A port that the last start used is waited for a little, since the processes that held it may
    still be ending. Raises FailedPrecondition when the given port stays taken.
    """
    wanted = given or last
    until = clock.monotonic() + (_PATIENCE_SECONDS if last == wanted else 0.0)
    while wanted:
        if _is_free(host, wanted):
            return wanted
        if clock.monotonic() >= until:
            break
        await clock.sleep(0.1)
    if given:
        raise FailedPrecondition(
            f"{field} {given} on {host} is taken",
            reason="PORT_TAKEN",
            field=field,
            fix="free it, or give 0 to have one chosen",
        )
    # Below the ephemeral range, where no outgoing connection can take it during a restart.
    for _ in range(200):
        port = random.SystemRandom().randrange(20000, 32000)
        if _is_free(host, port):
            return port
    raise FailedPrecondition(f"no free port on {host}", reason="PORT_TAKEN", field=field)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
