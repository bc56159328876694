"""A gRPC server for one program or several, from its first call to an orderly end."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from keeptune.runtime import telemetry
from keeptune.runtime.addresses import Address, parse_address
from keeptune.runtime.auth import Grants, Tokens, TokenSource
from keeptune.runtime.channel import Endpoint
from keeptune.runtime.clock import Clock
from keeptune.runtime.config import ServerSettings, TlsSettings
from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.runtime.interceptors import CallInterceptor
from keeptune.runtime.tasks import Loop, run_all

if TYPE_CHECKING:
    from keeptune.runtime.artifacts import ArtifactStore

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 4 << 20
# Until those who watch the health have heard of its end.
_TELLING_SECONDS = 0.05
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Else a second server on the same port would take half of the calls, without an error.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

# How a servicer gets onto a server: the `add_..._to_server` function of its stubs.
AddServicer = Callable[[Any, grpc.aio.Server], None]


def _find_nothing(service: str) -> Endpoint:
    raise FailedPrecondition(f"this process does not know where {service} listens")


@dataclass(frozen=True)
class Context:
    """What every program's `build` is given.

    `open_channel` takes a service's name, such as `search`, and connects to it wherever it runs.
    `find` tells the same as an address, for processes that a program starts and that open their
    own channels.
    """

    clock: Clock
    data_dir: Path
    artifacts: ArtifactStore
    open_channel: Callable[[str], grpc.aio.Channel]
    rng: random.Random
    find: Callable[[str], Endpoint] = _find_nothing


@dataclass(frozen=True)
class Program:
    """What a service brings: servicers, loops that run beside them, and an end.

    `servicers` are (add function, servicer, full service name such as
    `keeptune.v1.SearchService`); `grants` adds to what roles may call (see `auth`).
    `open_methods`, such as `/keeptune.v1.AgentLink/Enroll`, check their callers themselves;
    `token_source` knows the tokens that the program gives out.
    """

    name: str
    servicers: Sequence[tuple[AddServicer, Any, str]]
    background: Sequence[Loop] = ()
    close: Callable[[], Awaitable[None]] | None = None
    grants: Grants = field(default_factory=dict)
    open_methods: Collection[str] = ()
    token_source: TokenSource | None = None


class Server:
    """The servicers of some programs at one address."""

    def __init__(
        self, programs: Sequence[Program], settings: ServerSettings, *, tokens: Tokens
    ) -> None:
        self._settings = settings
        self._wanted = parse_address(settings.listen)
        if not self._wanted.is_loopback and settings.tls is None:
            raise InvalidInput(
                field="listen",
                problem=f"is {settings.listen}, which others can reach, without TLS",
                fix="set tls.cert and tls.key, or listen on 127.0.0.1",
                reason="TLS_REQUIRED",
            )
        services = {name: program for program in programs for _, _, name in program.servicers}
        for program in programs:
            if program.token_source is not None:
                tokens.accept(program.token_source)
        if settings.registry_public_key is not None:
            # Costs memory that agents, whose server needs it not, should not pay.
            from keeptune.runtime.host_credentials import source_of

            tokens.accept(source_of(settings.registry_public_key))
        self._calls = CallInterceptor(
            tokens,
            {name: program.grants for name, program in services.items()},
            [method for program in programs for method in program.open_methods],
        )
        self._server = grpc.aio.server(interceptors=[self._calls], options=_OPTIONS)
        for program in programs:
            for add, servicer, _ in program.servicers:
                add(servicer, self._server)
        self._services = tuple(services)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._address: Address | None = None

    @property
    def address(self) -> str:
        """`host:port` as it can be called, once started."""
        if self._address is None:
            raise RuntimeError("the server has not started")
        return str(self._address)

    async def start(self) -> None:
        """Listens, then says SERVING. FailedPrecondition when the address is taken."""
        target = str(self._wanted)
        try:
            if self._settings.tls is None:
                port = self._server.add_insecure_port(target)
            else:
                port = self._server.add_secure_port(target, _credentials(self._settings.tls))
        except RuntimeError as error:
            raise FailedPrecondition(
                f"cannot listen on {target}: the address is taken or is not of this machine",
                fix="stop what holds it, or choose another `listen` (port 0: any free one)",
                reason="ADDRESS_IN_USE",
            ) from error
        self._address = Address(self._wanted.host, port)
        await self._server.start()
        for service in ("", *self._services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float | None = None) -> None:
        """Takes no more calls, ends the streams, gives the rest `grace` seconds.

        The default is the setting `drain_seconds`.
        """
        if not self._calls.draining:
            await self._health.enter_graceful_shutdown()
            await asyncio.sleep(_TELLING_SECONDS)
        self._calls.drain()
        await self._server.stop(self._settings.drain_seconds if grace is None else grace)


async def serve(
    programs: Sequence[Program],
    settings: ServerSettings,
    *,
    tokens: Tokens,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Runs the programs until SIGTERM, SIGINT or `stop`, then drains; a second signal hurries.

    `ready` is told the address. The first loop that fails stops everything, and its error is
    raised. The server stops before the loops, the loops before the programs are closed.
    """
    stopped = stop or asyncio.Event()
    stop_metrics: Callable[[], None] | None = None
    server: Server | None = None
    stop_tracing = telemetry.start_tracing(
        programs[0].name if len(programs) == 1 else "control-plane"
    )
    try:
        if settings.metrics_listen:
            stop_metrics = telemetry.serve_metrics(settings.metrics_listen)
        server = Server(programs, settings, tokens=tokens)
        await server.start()
        # What was loaded so far stays: looking through it for garbage would be in vain, each time.
        gc.collect()
        gc.freeze()
        log.info("serving", address=server.address, programs=[each.name for each in programs])
        with _signals(stopped, server):
            if ready is not None:
                ready(server.address)
            await run_all({"server": _until(stopped, server), **_named(programs)})
    except _Stopped:
        log.info("stopped")
    finally:
        if server is not None:
            await server.stop(0)
        if stop_metrics is not None:
            await asyncio.to_thread(stop_metrics)
        for program in reversed(programs):
            if program.close is not None:
                await program.close()
        await asyncio.to_thread(stop_tracing)


class _Stopped(Exception):  # noqa: N818  (it is none)
    """The orderly end."""


def _until(stopped: asyncio.Event, server: Server) -> Loop:
    async def run() -> None:
        await stopped.wait()
        await server.stop()
        raise _Stopped

    return run


def _named(programs: Sequence[Program]) -> dict[str, Loop]:
    return {
        f"{program.name}.{getattr(loop, '__name__', 'loop')}[{i}]": loop
        for program in programs
        for i, loop in enumerate(program.background)
    }


@contextmanager
def _signals(stopped: asyncio.Event, server: Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    hurrying: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if stopped.is_set():
            hurrying.append(asyncio.create_task(server.stop(0)))
        stopped.set()

    # Only the main thread has signals; a server on another is stopped by its event.
    wanted = (signal.SIGTERM, signal.SIGINT) if current_thread() is main_thread() else ()
    for number in wanted:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    try:
        key, cert = tls.key.read_bytes(), tls.cert.read_bytes()
        client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise InvalidInput(
            field="tls", problem=f"names {error.filename}, which cannot be read: {error.strerror}"
        ) from error
    return grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=client_ca, require_client_auth=client_ca is not None
    )
