"""Starts a tritonserver from a serving-host environment and keeps it running.

`run_tritonserver` is the whole of it: it starts the server, waits until it is ready, writes where
it listens to `<state_dir>/triton.json`, and starts it again, after a back-off, whenever it dies
(kill -9 included) or stops answering within a deadline. Models are loaded from the repository at
each start, so serving comes back without the agent. Ports that were chosen free are kept over
restarts, of the server and of its supervisor, so that clients find it again.

When the supervisor itself is killed the server goes too (unless `outlive_supervisor`): a server
that nobody watches would hold the ports against its successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from keeptune.agent.serving_host import ServingHost, installed_backends
from keeptune.agent.triton_endpoint import TritonEndpoint, choose_port
from keeptune.runtime.clock import Clock, SystemClock
from keeptune.runtime.errors import FailedPrecondition, Unavailable

log = structlog.get_logger()

_LAUNCHER = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if parent:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Triton puts its regions
_LOG_LIMIT = 64 * 2**20
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STABLE_SECONDS = 60.0


@dataclass(frozen=True)
class TritonOptions:
    """How to run one server. Ports of 0 are chosen free and then kept; paths are made if absent."""

    environment: Path
    """Root of the serving-host environment; see `serving_host`."""
    repository: Path
    state_dir: Path
    """Holds backends/, logs/, sampling/, traces/ and triton.json; one server a folder."""
    host: str = "127.0.0.1"
    grpc_port: int = 0
    http_port: int = 0
    metrics_port: int = 0
    tracing: bool = False
    """Start with Triton's trace extension armed but off; see `trace_sampling`."""
    safe_malloc: bool = False
    """Works round the tracing crash of servers before 2.57, at about 335 MB."""
    outlive_supervisor: bool = False
    ready_seconds: float = 120.0
    live_interval_seconds: float = 2.0
    live_deadline_seconds: float = 10.0
    """A server that answers no liveness probe for this long is killed and started again."""
    extra_arguments: tuple[str, ...] = ()

    @property
    def sampling_dir(self) -> Path:
        """Where the shim and the agent meet; see `sampling`."""
        return self.state_dir / "sampling"

    @property
    def endpoint_file(self) -> Path:
        return self.state_dir / "triton.json"


class TritonServer:
    """One running tritonserver process and its stubs; made by `start`, ended by `stop`."""

    def __init__(
        self, process: asyncio.subprocess.Process, endpoint: TritonEndpoint, shm_prefix: str
    ) -> None:
        self._process = process
        self._shm_prefix = shm_prefix
        self.endpoint = endpoint

    @classmethod
    async def start(cls, options: TritonOptions, clock: Clock) -> TritonServer:
        """Starts the process, not waiting until it is ready.

        Raises FailedPrecondition for an unsound environment or a taken port.
        """
        host = await asyncio.to_thread(ServingHost.inspect, options.environment)
        for folder in (options.repository, options.state_dir / "logs", options.sampling_dir):
            folder.mkdir(parents=True, exist_ok=True)
        options.sampling_dir.chmod(0o700)
        await asyncio.to_thread(host.install_backends, options.state_dir / "backends")
        prefix = _shm_prefix(options.state_dir)
        _end_survivors(options)
        _clean_shared_memory(prefix)
        endpoint = await _next_endpoint(options, clock)
        environment = host.process_environment(os.environ)
        environment["KEEPTUNE_SAMPLING_DIR"] = str(options.sampling_dir.absolute())
        if options.safe_malloc:
            environment["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=65535"
        parent = 0 if options.outlive_supervisor else os.getpid()
        with _open_log(options.state_dir / "logs" / "tritonserver.log") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(parent)),
                str(host.tritonserver),
                *_arguments(options, endpoint, prefix),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )
        endpoint = replace(endpoint, pid=process.pid)
        endpoint.write(options.endpoint_file)
        return cls(process, endpoint, prefix)

    async def wait_ready(self, seconds: float, clock: Clock) -> None:
        """Returns when the server answers as ready. Raises Unavailable when it does not."""
        until = clock.monotonic() + seconds
        while clock.monotonic() < until:
            if self._process.returncode is not None:
                raise Unavailable(
                    f"tritonserver ended with {self._process.returncode} while starting; "
                    "its log tells why",
                    reason="TRITON_DIED",
                )
            if await self.probe("/v2/health/ready", 2.0):
                return
            await clock.sleep(0.05)
        raise Unavailable(
            f"tritonserver was not ready after {seconds} s", reason="TRITON_NOT_READY"
        )

    async def probe(self, path: str, seconds: float) -> bool:
        """Whether an HTTP GET of `path` is answered with 200 within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(
                    self.endpoint.host, self.endpoint.http_port
                )
                try:
                    writer.write(
                        f"GET {path} HTTP/1.1\r\nHost: triton\r\nConnection: close\r\n\r\n".encode()
                    )
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    async def wait(self) -> int:
        """Returns the exit status when the process has ended."""
        return await self._process.wait()

    async def stop(self, seconds: float = 10.0) -> None:
        """Ends the server: gracefully, after `seconds` by force; leaves no stub and no memory."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            log.warning("triton.stop_forced", pid=self._process.pid, after_seconds=seconds)
        await self.kill()

    async def kill(self) -> None:
        """Ends the server and its stubs at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        _clean_shared_memory(self._shm_prefix)


async def run_tritonserver(
    options: TritonOptions,
    *,
    clock: Clock | None = None,
    on_ready: Callable[[TritonEndpoint], None] | None = None,
) -> None:
    """Runs and supervises a server until it is cancelled; then stops it and returns by raising
    CancelledError.

    `on_ready` is called after each start that became ready. Raises FailedPrecondition when the
    environment is unsound or a given port is taken: waiting would not help.
    """
    clock = clock or SystemClock()
    failures = 0
    while True:
        started = clock.monotonic()
        server = await TritonServer.start(options, clock)
        try:
            await server.wait_ready(options.ready_seconds, clock)
            log.info("triton.ready", address=server.endpoint.grpc_address, pid=server.endpoint.pid)
            if on_ready is not None:
                on_ready(server.endpoint)
            reason = await _until_dead(server, options, clock)
        except Unavailable as error:
            reason = str(error)
        except asyncio.CancelledError:
            await asyncio.shield(server.stop())
            raise
        await server.kill()
        failures = 0 if clock.monotonic() - started > _STABLE_SECONDS else failures + 1
        delay = _BACKOFF[min(max(failures - 1, 0), len(_BACKOFF) - 1)]
        log.error("triton.ended", why=reason, restart_in_seconds=delay, failures=failures)
        await clock.sleep(delay)


async def _until_dead(server: TritonServer, options: TritonOptions, clock: Clock) -> str:
    """Returns why the server is to be started again: it exited, or it no longer answers."""
    exited = asyncio.ensure_future(server.wait())
    answered = clock.monotonic()
    try:
        while True:
            pause = asyncio.ensure_future(clock.sleep(options.live_interval_seconds))
            await asyncio.wait({exited, pause}, return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
            if exited.done():
                return f"tritonserver ended with {exited.result()}"
            if await server.probe("/v2/health/live", options.live_deadline_seconds):
                answered = clock.monotonic()
            elif clock.monotonic() - answered > options.live_deadline_seconds:
                return f"tritonserver did not answer for {clock.monotonic() - answered:.0f} s"
    finally:
        exited.cancel()


def _arguments(options: TritonOptions, endpoint: TritonEndpoint, shm_prefix: str) -> list[str]:
    control = f"keeptune={endpoint.control_token}"
    nobody = f"keeptune={secrets.token_urlsafe(16)}"
    arguments = [
        f"--model-repository={options.repository.absolute()}",
        f"--backend-directory={(options.state_dir / 'backends').absolute()}",
        "--model-control-mode=explicit",
        # Serving must come back by itself, and one bad model must not keep the others away.
        "--load-model=*",
        "--exit-on-error=false",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        f"--http-address={endpoint.host}",
        f"--grpc-address={endpoint.host}",
        f"--metrics-address={endpoint.host}",
        f"--http-port={endpoint.http_port}",
        f"--grpc-port={endpoint.grpc_port}",
        f"--metrics-port={endpoint.metrics_port}",
        "--exit-timeout-secs=5",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        "--metrics-config=summary_latencies=true",
        "--metrics-config=summary_quantiles=0.5:0.05,0.99:0.001",
        # Loading runs code by design: only who holds the token may. Shared memory nobody may.
        f"--grpc-restricted-protocol=model-repository,trace,logging:{control}",
        f"--grpc-restricted-protocol=shared-memory:{nobody}",
        f"--http-restricted-api=model-repository,trace,logging:{control}",
        f"--http-restricted-api=shared-memory:{nobody}",
    ]
    if endpoint.trace_file:
        arguments += [
            f"--trace-config=triton,file={endpoint.trace_file}",
            "--trace-config=level=OFF",
        ]
    return [*arguments, *options.extra_arguments]


async def _next_endpoint(options: TritonOptions, clock: Clock) -> TritonEndpoint:
    try:
        last = TritonEndpoint.read(options.endpoint_file)
    except (Unavailable, FailedPrecondition):
        last = TritonEndpoint(options.host, 0, 0, 0, secrets.token_urlsafe(24), 0, 0, "")
    start = last.start + 1
    trace_file = ""
    if options.tracing:
        # A restarted server begins again at file .0, so each start has a folder of its own.
        folder = options.state_dir.absolute() / "traces" / str(start)
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        trace_file = str(folder / "trace.json")
    host = options.host
    return TritonEndpoint(
        host=host,
        grpc_port=await choose_port("grpc_port", host, options.grpc_port, last.grpc_port, clock),
        http_port=await choose_port("http_port", host, options.http_port, last.http_port, clock),
        metrics_port=await choose_port(
            "metrics_port", host, options.metrics_port, last.metrics_port, clock
        ),
        control_token=last.control_token,
        pid=0,
        start=start,
        trace_file=trace_file,
        backends=installed_backends(options.state_dir / "backends"),
    )


def _shm_prefix(state_dir: Path) -> str:
    return f"keeptune_{hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:12]}_"


def _clean_shared_memory(prefix: str) -> None:
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _end_survivors(options: TritonOptions) -> None:
    """Kills what is left of the server's last start when its supervisor was killed."""
    try:
        last = TritonEndpoint.read(options.endpoint_file)
    except (Unavailable, FailedPrecondition):
        return
    marker = f"KEEPTUNE_SAMPLING_DIR={options.sampling_dir.absolute()}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        # The group's number may have been given to others since: only ours carry the marker.
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == last.pid and marker in (entry / "environ").read_bytes():
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _open_log(path: Path) -> Iterator[int]:
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        os.replace(path, path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
