from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from keeptune.agent.detectors.base import Finding
from keeptune.agent.orders import OrderLedger
from keeptune.agent.session import Session
from keeptune.agent.signals import SignalBook
from keeptune.runtime.clock import SystemClock
from keeptune.runtime.tasks import run_all
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import deployment_pb2_grpc, monitoring_pb2


class Link(deployment_pb2_grpc.AgentLinkServicer):
    """Sends what is put into `orders`; `heard` is what it was told, by kind, over all links."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[pb.Order | None] = asyncio.Queue()
        self.heard: list[tuple[str, Any]] = []

    def of(self, kind: str) -> list[Any]:
        return [message for found, message in self.heard if found == kind]

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        hello = await anext(request_iterator)
        self.heard.append(("hello", hello.hello))
        yield pb.ServerMessage(welcome=pb.Welcome())

        async def listen() -> None:
            async for message in request_iterator:
                kind = message.WhichOneof("message")
                self.heard.append((kind, getattr(message, kind)))

        listening = asyncio.create_task(listen())
        try:
            while (order := await self.orders.get()) is not None:
                yield pb.ServerMessage(order=order)
        finally:
            listening.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")


class Reporter:
    def info(self) -> pb.HostInfo:
        return pb.HostInfo(agent_version="test")

    def models(self) -> list[pb.ServedModel]:
        return []


class Host:
    """Carries orders out by remembering them; some take `seconds`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.seconds = 0.0

    async def carry_out(self, order: pb.Order) -> pb.OrderResult:
        await asyncio.sleep(self.seconds)
        self.done.append(order.id)
        return pb.OrderResult(order_id=order.id, sequence=order.sequence, state=1)


@pytest.fixture
async def link() -> AsyncIterator[tuple[Link, Any]]:
    servicer = Link()
    server = grpc.aio.server()
    deployment_pb2_grpc.add_AgentLinkServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, deployment_pb2_grpc.AgentLinkStub(channel)
    await server.stop(0)


def session(folder: Path, stub: Any, host: Host) -> tuple[Session, SignalBook]:
    book = SignalBook(folder / "signals", "h")
    made = Session(
        host="h",
        stub=stub,
        reporter=Reporter(),  # type: ignore[arg-type]
        ledger=OrderLedger(folder / "orders.json"),
        book=book,
        carry_out=host.carry_out,
        clock=SystemClock(),
    )
    return made, book


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def running(made: Session) -> asyncio.Task[None]:
    return asyncio.create_task(run_all({"link": made.run, "orders": made.run_orders}))


async def test_orders_are_done_in_order_answered_once_and_answered_again(
    link: tuple[Link, Any], tmp_path: Path
) -> None:
    plane, stub = link
    host = Host()
    made, _ = session(tmp_path, stub, host)
    task = running(made)
    for sequence in (3, 4, 4, 7):
        plane.orders.put_nowait(pb.Order(id=f"o{sequence}", sequence=sequence))
    await until(lambda: len(plane.of("order_result")) >= 3)
    # The plane did not note the answer, and asks again.
    plane.orders.put_nowait(pb.Order(id="o4", sequence=4))
    await until(lambda: len(plane.of("order_result")) >= 4)
    assert host.done == ["o3", "o4", "o7"]
    assert plane.of("hello")[0].last_sequence == 0
    assert plane.of("report")
    kinds = [kind for kind, _ in plane.heard]
    assert kinds.index("report") < kinds.index("order_result")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    # A restarted agent answers from the disk.
    again, _ = session(tmp_path, stub, host)
    task = running(again)
    await until(lambda: len(plane.of("hello")) == 2)
    assert plane.of("hello")[1].last_sequence == 7
    plane.orders.put_nowait(None)
    plane.orders.put_nowait(pb.Order(id="o7", sequence=7))
    await until(lambda: len(plane.of("hello")) >= 3 and len(plane.of("order_result")) >= 5)
    assert host.done == ["o3", "o4", "o7"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_broken_link_is_dialled_again_and_work_goes_on(
    link: tuple[Link, Any], tmp_path: Path
) -> None:
    plane, stub = link
    host = Host()
    host.seconds = 1.0
    made, _ = session(tmp_path, stub, host)
    task = running(made)
    plane.orders.put_nowait(pb.Order(id="slow", sequence=1))
    plane.orders.put_nowait(None)
    await until(lambda: len(plane.of("hello")) == 2)
    await until(lambda: host.done == ["slow"])
    # The new link may have begun before the order was done: then its answer is sent on it.
    await until(lambda: plane.of("order_result") or plane.of("hello")[-1].last_sequence == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_signals_are_told_once_and_again_on_a_new_link_while_they_last(
    link: tuple[Link, Any], tmp_path: Path
) -> None:
    plane, stub = link
    made, book = session(tmp_path, stub, Host())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    finding = Finding(1.0, 1.0, 1, 1, now, now, note="it is")
    kind = monitoring_pb2.SIGNAL_KIND_DRIFT
    book.observe("m", 1, kind, finding)
    task = running(made)
    await until(lambda: len(plane.of("signal")) == 1)
    made.changed()
    await until(lambda: len(plane.of("report")) >= 2)
    assert len(plane.of("signal")) == 1
    plane.orders.put_nowait(None)
    await until(lambda: len(plane.of("signal")) == 2)
    book.observe("m", 1, kind, None)
    hellos = len(plane.of("hello"))
    plane.orders.put_nowait(None)
    await until(lambda: len(plane.of("hello")) > hellos)
    reports = len(plane.of("report"))
    await until(lambda: len(plane.of("report")) > reports)
    assert len(plane.of("signal")) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_control_plane_it_says_so_and_tries_on(tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        made, _ = session(tmp_path, deployment_pb2_grpc.AgentLinkStub(channel), Host())
        task = running(made)
        await until(lambda: "UNAVAILABLE" in made.state.reason)
        assert not made.state.connected
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
