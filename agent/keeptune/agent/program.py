"""The wiring of the agent."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog

from keeptune.agent.artifacts import ArtifactFetcher
from keeptune.agent.carrier import Carrier
from keeptune.agent.config import AgentSettings
from keeptune.agent.credentials import HostCredential, control_plane_credentials
from keeptune.agent.health import ModelHealth
from keeptune.agent.host_store import HostStore
from keeptune.agent.keeper import Keeper
from keeptune.agent.orders import OrderLedger
from keeptune.agent.reports import Reporter
from keeptune.agent.repository import ModelRepository
from keeptune.agent.sampling import Sampler, ShimSampler, choose_sampling
from keeptune.agent.servicer import AgentServicer, SignalNews
from keeptune.agent.session import Session
from keeptune.agent.signals import SignalBook
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_endpoint import TritonEndpoint
from keeptune.agent.triton_model import ServerInfo
from keeptune.agent.updates import ModelUpdater
from keeptune.agent.uploads import CaptureUploader, RetuneRequester
from keeptune.agent.watcher import SAVE_SECONDS, SEAL_SECONDS, Watcher
from keeptune.runtime.addresses import parse_address
from keeptune.runtime.auth import Role
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.channel import open_channel
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import DeadlineExceeded, FailedPrecondition, KeeptuneError, Unavailable
from keeptune.runtime.server import Program
from keeptune.v1 import (
    agent_pb2_grpc,
    deployment_pb2,
    deployment_pb2_grpc,
    retuning_pb2_grpc,
)

log = structlog.get_logger()

_RETUNE_SECONDS = 1.0
_GRANTS = {Role.WORKER: ("RecordOutcomes",), Role.AGENT: ("RecordOutcomes",)}


class TritonMovedError(FailedPrecondition):
    """Triton is reached elsewhere since it was started again; the agent is to be built anew."""

    default_reason = "TRITON_MOVED"


async def build(settings: AgentSettings, clock: Clock) -> Program:
    """The agent as one program. Waits until Triton has been started once.

    Raises FailedPrecondition when another agent holds the model repository, or this host has no
    credential.
    """
    enrolled = HostCredential.load(settings.data_dir)
    credentials = control_plane_credentials(settings, enrolled)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    endpoint_file = _endpoint_file(settings)
    endpoint = await _endpoint(endpoint_file, clock)

    repository = ModelRepository(settings.model_repository)
    repository.acquire()
    triton = TritonClient(endpoint.grpc_address, control_token=endpoint.control_token)
    # The link fails at once while the control plane is away, so that the agent can say so; what
    # is fetched and sent waits a while for it.
    link_channel = open_channel(settings.deployment, credentials=credentials, wait_for_ready=False)
    data_channel = open_channel(settings.deployment, credentials=credentials)
    retuning_channel = open_channel(settings.retuning_address, credentials=credentials)
    data_stub = deployment_pb2_grpc.AgentLinkStub(data_channel)

    updater = ModelUpdater(repository, triton)
    health = ModelHealth(triton, updater)
    store = HostStore(settings.data_dir / "models")
    book = SignalBook(settings.data_dir / "signals", settings.host)
    news = SignalNews()
    sampler_kind, sampler = await _sampler(settings, endpoint_file, triton, clock)

    def changed(_model: str) -> None:
        session.changed()

    def raised() -> None:
        news.tell()
        session.changed()

    watcher = Watcher(
        sampler=sampler,
        store=store,
        book=book,
        captures_dir=settings.data_dir / "captures",
        clock=clock,
        seed=zlib.crc32(settings.host.encode()),
        raised=raised,
    )
    carrier = Carrier(
        repository=repository,
        updater=updater,
        health=health,
        store=store,
        fetcher=ArtifactFetcher(
            settings.data_dir / "artifacts",
            data_stub,
            registry_key=enrolled.registry_key if enrolled else b"",
        ),
        clock=clock,
        example=watcher.example,
        changed=changed,
    )
    keeper = Keeper(
        triton=triton,
        starts=partial(_starts, settings, endpoint_file),
        updater=updater,
        health=health,
        carrier=carrier,
        watcher=watcher,
        store=store,
        clock=clock,
        changed=changed,
    )
    reporter = Reporter(
        carrier=carrier,
        keeper=keeper,
        watcher=watcher,
        store=store,
        backends=endpoint.backends,
        labels=settings.labels,
    )

    async def carry_out(order: deployment_pb2.Order) -> deployment_pb2.OrderResult:
        result = await carrier.carry_out(order)
        await keeper.refresh()
        return result

    session = Session(
        host=settings.host,
        stub=deployment_pb2_grpc.AgentLinkStub(link_channel),
        reporter=reporter,
        ledger=OrderLedger(settings.data_dir / "orders.json"),
        book=book,
        carry_out=carry_out,
        clock=clock,
    )
    uploader = CaptureUploader(settings.host, data_stub, watcher)
    requester = RetuneRequester(
        retuning_pb2_grpc.RetuningServiceStub(retuning_channel), book, clock, session.changed
    )
    servicer = AgentServicer(
        host=settings.host,
        sampler=sampler_kind,
        started=clock.now(),
        reporter=reporter,
        session=session,
        watcher=watcher,
        book=book,
        news=news,
    )

    async def follow_endpoint() -> None:
        while True:
            await clock.sleep(5.0)
            _check_endpoint(endpoint_file, endpoint)

    async def close() -> None:
        await watcher.save()
        await watcher.seal()
        for channel in (link_channel, data_channel, retuning_channel):
            await channel.close()
        await triton.close()
        repository.release()

    return Program(
        name="agent",
        servicers=[
            (
                agent_pb2_grpc.add_AgentServiceServicer_to_server,
                servicer,
                "keeptune.v1.AgentService",
            )
        ],
        background=[
            keeper.run,
            sampler.run,
            watcher.take_samples,
            session.run,
            session.run_orders,
            _again(clock, SAVE_SECONDS, watcher.save, "save"),
            _again(clock, SEAL_SECONDS, uploader.run_once, "captures"),
            _again(clock, _RETUNE_SECONDS, requester.run_once, "retunes"),
            follow_endpoint,
        ],
        close=close,
        grants=_GRANTS,
    )


def _again(
    clock: Clock, seconds: float, work: Callable[[], Awaitable[None]], name: str
) -> Callable[[], Awaitable[None]]:
    """For ever: a host must go on whatever the control plane answers, so nothing ends this."""

    async def run() -> None:
        backoff = Backoff(initial=seconds, maximum=max(5.0, seconds))
        while True:
            try:
                await work()
            except KeeptuneError as error:
                log.warning("will try again", loop=name, error=error.message)
                await clock.sleep(backoff.next())
            else:
                backoff.reset()
                await clock.sleep(seconds)

    run.__name__ = name
    return run


def _endpoint_file(settings: AgentSettings) -> Path:
    """Where Triton's endpoint stands; written here for a Triton that something else runs."""
    triton = settings.triton
    if triton.state_dir is not None:
        return triton.state_dir / "triton.json"
    if not triton.grpc:
        raise FailedPrecondition(
            "the agent does not know where Triton is",
            reason="NO_TRITON",
            field="agent.triton.state_dir",
            fix="set agent.triton.state_dir, or agent.triton.grpc",
        )
    address = parse_address(triton.grpc, field="agent.triton.grpc")
    file = settings.data_dir / "triton.json"
    TritonEndpoint(
        host=address.host,
        grpc_port=address.port,
        http_port=0,
        metrics_port=0,
        control_token=triton.control_token,
        pid=0,
        start=1,
        trace_file=triton.trace_file,
        backends=triton.backends,
    ).write(file)
    return file


def _starts(settings: AgentSettings, file: Path) -> int:
    """How often Triton has been started; 0 = not known, as when something else runs it."""
    if settings.triton.state_dir is None:
        return 0
    try:
        return TritonEndpoint.read(file).start
    except Unavailable:
        return 0


async def _endpoint(file: Path, clock: Clock) -> TritonEndpoint:
    told = False
    while True:
        try:
            return TritonEndpoint.read(file)
        except Unavailable as error:
            if not told:
                log.warning("waiting for Triton", why=error.message)
                told = True
            await clock.sleep(0.5)


def _check_endpoint(file: Path, known: TritonEndpoint) -> None:
    try:
        now = TritonEndpoint.read(file)
    except Unavailable:
        return
    if (now.grpc_address, now.control_token) != (known.grpc_address, known.control_token):
        raise TritonMovedError(f"Triton moved from {known.grpc_address} to {now.grpc_address}")


async def _sampler(
    settings: AgentSettings, endpoint_file: Path, triton: TritonClient, clock: Clock
) -> tuple[str, Sampler]:
    wanted = settings.triton.sampler
    folder = settings.triton.sampling_dir
    if folder is None and settings.triton.state_dir is not None:
        folder = settings.triton.state_dir / "sampling"
    if wanted == "auto" and folder is not None:
        wanted = "shim"
    elif wanted == "auto":
        wanted = choose_sampling(await _server(triton, clock), shim_serves=False)
    if wanted == "trace":
        from keeptune.agent.trace_sampling import TraceSampler

        return wanted, TraceSampler(triton, endpoint_file, clock=clock)
    if folder is None:
        raise FailedPrecondition(
            "the shim's samples have no folder",
            field="agent.triton.sampling_dir",
            reason="NO_SAMPLING_DIR",
            fix="set it to the folder that KEEPTUNE_SAMPLING_DIR names in Triton's environment",
        )
    return wanted, ShimSampler(await asyncio.to_thread(folder.absolute), clock=clock)


async def _server(triton: TritonClient, clock: Clock) -> ServerInfo:
    """Waits until Triton answers."""
    while True:
        try:
            return await triton.server()
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("waiting for Triton", why=error.message)
            await clock.sleep(2.0)
