"""The link to the control plane: dials, greets, reports, takes orders; for ever.

Orders are carried out one after the other, in the order of their sequence, and answered from a
ledger when they come again, so that a broken link or a killed agent does nothing twice. While
there is no link, everything else goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from keeptune.agent.orders import OrderLedger
from keeptune.agent.reports import Reporter
from keeptune.agent.signals import SignalBook
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import KeeptuneError, ResourceExhausted, Unavailable
from keeptune.runtime.tasks import run_all
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc

log = structlog.get_logger()

REPORT_SECONDS = 5.0
_WELCOME_SECONDS = 15.0

CarryOut = Callable[[deployment_pb2.Order], Awaitable[deployment_pb2.OrderResult]]


@dataclass(frozen=True)
class LinkState:
    connected: bool = False
    reason: str = "not connected yet"


class Session:
    """`carry_out` answers for every order and never raises for what an order is to blame for."""

    def __init__(
        self,
        *,
        host: str,
        stub: deployment_pb2_grpc.AgentLinkAsyncStub,
        reporter: Reporter,
        ledger: OrderLedger,
        book: SignalBook,
        carry_out: CarryOut,
        clock: Clock,
    ) -> None:
        self._host = host
        self._stub = stub
        self._reporter = reporter
        self._ledger = ledger
        self._book = book
        self._carry_out = carry_out
        self._clock = clock
        self._orders: asyncio.Queue[deployment_pb2.Order] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._results: asyncio.Queue[deployment_pb2.OrderResult] = asyncio.Queue()
        self._news = asyncio.Event()
        self.state = LinkState()

    def changed(self) -> None:
        """Something happened on this host: report it now."""
        self._news.set()

    async def run_orders(self) -> None:
        """For ever: carries out what came, with or without a link."""
        while True:
            order = await self._orders.get()
            result = self._ledger.answer(order)
            if result is None:
                result = await self._carry_out(order)
                try:
                    await asyncio.to_thread(self._ledger.put, result)
                except ResourceExhausted as error:
                    # Orders are idempotent: forgotten after a restart, it is done again.
                    log.warning("order.not_kept", order=order.id, why=error.message)
            self._waiting.discard(order.id)
            self._results.put_nowait(result)
            self.changed()

    async def run(self) -> None:
        """For ever: keeps the link up."""
        backoff = Backoff(initial=0.2, maximum=10.0)
        while True:
            try:
                await self._link(backoff)
                reason = "the control plane ended the link"
            except KeeptuneError as error:
                reason = error.message
            if self.state.connected or self.state.reason != reason:
                log.warning("link.down", why=reason)
            self.state = LinkState(False, reason)
            await self._clock.sleep(backoff.next())

    async def _link(self, backoff: Backoff) -> None:
        # What was answered while there was no link: the hello tells it.
        self._results = asyncio.Queue()
        call = self._stub.Connect()
        try:
            await call.write(deployment_pb2.AgentMessage(hello=self._hello()))
            async with asyncio.timeout(_WELCOME_SECONDS):
                first = await call.read()
            if not isinstance(first, deployment_pb2.ServerMessage):
                await _raise_status(call)
                return
            self._receive(first)
            self.state = LinkState(True, "")
            log.info("link.up", host=self._host)
            backoff.reset()
            await run_all({"read": lambda: self._read(call), "write": lambda: self._write(call)})
        except TimeoutError:
            raise Unavailable(f"no welcome within {_WELCOME_SECONDS:.0f} s") from None
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # A write on a stream that has ended says little: its status tells why.
            await _raise_status(call)
        finally:
            call.cancel()

    def _hello(self) -> deployment_pb2.AgentHello:
        return deployment_pb2.AgentHello(
            host=f"hosts/{self._host}",
            info=self._reporter.info(),
            models=self._reporter.models(),
            last_sequence=self._ledger.last_sequence,
        )

    async def _read(self, call: _Call) -> None:
        while True:
            message = await call.read()
            if not isinstance(message, deployment_pb2.ServerMessage):
                await _raise_status(call)
                raise Unavailable("the control plane ended the link")
            self._receive(message)

    def _receive(self, message: deployment_pb2.ServerMessage) -> None:
        if message.HasField("order") and message.order.id not in self._waiting:
            log.info("order.received", order=message.order.id, model=message.order.model)
            self._waiting.add(message.order.id)
            self._orders.put_nowait(message.order)

    async def _write(self, call: _Call) -> None:
        told: set[str] = set()
        while True:
            self._news.clear()
            # The report goes before the answers, which it bears out.
            results = [self._results.get_nowait() for _ in range(self._results.qsize())]
            report = deployment_pb2.HostReport(
                info=self._reporter.info(), models=self._reporter.models()
            )
            await call.write(deployment_pb2.AgentMessage(report=report))
            for result in results:
                await call.write(deployment_pb2.AgentMessage(order_result=result))
            await self._tell_signals(call, told)
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _tell_signals(self, call: _Call, told: set[str]) -> None:
        """New ones, and on a new link those that are still true."""
        for entry in self._book:
            name = entry.signal.id
            if name in told or (entry.told and not entry.active):
                continue
            await call.write(deployment_pb2.AgentMessage(signal=entry.signal))
            told.add(name)
            if not entry.told:
                await asyncio.to_thread(self._book.told, name)


_Call = grpc.aio.StreamStreamCall[deployment_pb2.AgentMessage, deployment_pb2.ServerMessage]


async def _raise_status(call: _Call) -> None:
    """Raises what ended the stream, unless it ended well."""
    code, details = await call.code(), await call.details()
    if code is not grpc.StatusCode.OK:
        raise Unavailable(f"{code.name}: {details}")
