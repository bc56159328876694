"""A small servicer of the real SearchService, a server for it and clients to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from keeptune.runtime.auth import ClientCredentials, Grants, Role, Tokens
from keeptune.runtime.channel import open_channel
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.errors import (
    Conflict,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Unavailable,
    Violation,
)
from keeptune.runtime.server import Program, Server
from keeptune.v1 import search_pb2, search_pb2_grpc

SERVICE = "keeptune.v1.SearchService"


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Servicer(search_pb2_grpc.SearchServiceServicer):
    """Answers by the name it is asked for; notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.ids: list[dict[str, Any]] = []
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.watching = 0
        self.failures_left = 0

    async def GetStudy(self, request: search_pb2.GetStudyRequest, context: Any) -> search_pb2.Study:
        self.seen.append(request.name)
        self.ids.append(dict(structlog.contextvars.get_contextvars()))
        match request.name.removeprefix("studies/"):
            case "missing":
                raise NotFound(f"{request.name} does not exist", metadata={"name": request.name})
            case "boom":
                raise ZeroDivisionError("a secret of the implementation")
            case "stale":
                raise Conflict("studies/stale has changed", fix="read it again")
            case "wrong":
                raise InvalidInput.many(
                    [
                        Violation("study.space.parameters[2].min", "is above max", "swap them"),
                        Violation("study.seed", "is negative"),
                    ],
                    reason="EMPTY_RANGE",
                )
            case "later":
                raise Unavailable("not now", retry_after=1.5)
            case "flaky":
                if self.failures_left:
                    self.failures_left -= 1
                    raise Unavailable("not now")
            case "slow":
                self.entered.set()
                await self.go_on.wait()
            case "aborted":
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, "by hand")
        return search_pb2.Study(name=request.name)

    async def StopStudy(
        self, request: search_pb2.StopStudyRequest, context: Any
    ) -> search_pb2.Study:
        raise FailedPrecondition("it has stopped already")

    async def SuggestTrials(
        self, request: search_pb2.SuggestTrialsRequest, context: Any
    ) -> search_pb2.SuggestTrialsResponse:
        return search_pb2.SuggestTrialsResponse()

    async def WatchStudy(
        self, request: search_pb2.WatchStudyRequest, context: Any
    ) -> AsyncIterator[search_pb2.WatchStudyResponse]:
        self.watching += 1
        try:
            revision = request.revision
            while request.study != "studies/boom" or revision < 2:
                revision += 1
                yield search_pb2.WatchStudyResponse(revision=revision)
                await asyncio.sleep(0.01 if revision % 3 else 30)
            raise ZeroDivisionError("a secret of the implementation")
        finally:
            self.watching -= 1

    async def WorkTrials(
        self, requests: AsyncIterator[search_pb2.WorkTrialsRequest], context: Any
    ) -> AsyncIterator[search_pb2.WorkTrialsResponse]:
        async for request in requests:
            yield search_pb2.WorkTrialsResponse(request_id=request.request_id)


@dataclass
class Running:
    """A server that runs, and clients of it."""

    server: Server
    servicer: Servicer
    tokens_file: Path
    stack: AsyncExitStack
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def credentials(self, role: Role = Role.ADMIN, **more: Any) -> ClientCredentials:
        token = ClientCredentials.from_file(self.tokens_file, role).token
        return ClientCredentials(token=token, **more)

    async def channel(
        self, credentials: ClientCredentials | None = None, **more: Any
    ) -> grpc.aio.Channel:
        opened = open_channel(
            self.server.address, credentials=credentials or self.credentials(), **more
        )
        return await self.stack.enter_async_context(opened)

    async def stub(
        self, credentials: ClientCredentials | None = None, **more: Any
    ) -> search_pb2_grpc.SearchServiceAsyncStub:
        stub: Any = search_pb2_grpc.SearchServiceStub(await self.channel(credentials, **more))
        return stub


RunServer = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def running_server(
    folder: Path, *, grants: Grants | None = None, **settings: Any
) -> AsyncIterator[Running]:
    tokens_file = folder / "credentials"
    servicer = Servicer()
    program = Program(
        "search",
        [(search_pb2_grpc.add_SearchServiceServicer_to_server, servicer, SERVICE)],
        grants=grants or {},
    )
    server = Server(
        [program], ServerSettings(**settings), tokens=Tokens.load_or_create(tokens_file)
    )
    await server.start()
    async with AsyncExitStack() as stack:
        try:
            yield Running(server, servicer, tokens_file, stack)
        finally:
            servicer.go_on.set()
            await server.stop(0)


@pytest.fixture
async def run_server(tmp_path: Path) -> AsyncIterator[RunServer]:
    """Starts servers that stop with the test."""
    async with AsyncExitStack() as stack:

        async def run(**options: Any) -> Running:
            return await stack.enter_async_context(running_server(tmp_path, **options))

        yield run
