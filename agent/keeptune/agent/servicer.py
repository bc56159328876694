"""AgentService: what applications on this host ask of the agent, and tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc

from keeptune.agent.answers import Answers
from keeptune.agent.outcomes import Outcome
from keeptune.agent.reports import Reporter
from keeptune.agent.session import Session
from keeptune.agent.signals import Entry, Request, SignalBook
from keeptune.agent.watcher import Watcher
from keeptune.runtime import names
from keeptune.runtime.convert import to_timestamp
from keeptune.runtime.page_tokens import window
from keeptune.v1 import agent_pb2, agent_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class SignalNews:
    """Wakes those who watch signals."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def tell(self) -> None:
        for event in self._waiting:
            event.set()

    async def wait(self, seconds: float) -> None:
        """Returns at news, or after `seconds`."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    def __init__(
        self,
        *,
        host: str,
        sampler: str,
        started: datetime,
        reporter: Reporter,
        session: Session,
        watcher: Watcher,
        book: SignalBook,
        news: SignalNews,
    ) -> None:
        self._host = host
        self._sampler = sampler
        self._started = started
        self._reporter = reporter
        self._session = session
        self._watcher = watcher
        self._book = book
        self._news = news
        self._recorded: Answers[agent_pb2.RecordOutcomesResponse] = Answers()

    async def GetStatus(
        self, request: agent_pb2.GetStatusRequest, context: Context
    ) -> agent_pb2.AgentStatus:
        captures = list(self._watcher.captures.values())
        untold = sum(entry.waits for entry in self._book)
        return agent_pb2.AgentStatus(
            host=names.host_name(self._host),
            info=self._reporter.info(),
            control_plane_connected=self._session.state.connected,
            control_plane_reason=self._session.state.reason,
            start_time=to_timestamp(self._started),
            spooled_messages=sum(len(each.spool) for each in captures) + untold,
            spool_bytes=sum(each.size for each in captures),
            spool_dropped=sum(each.spool.dropped for each in captures),
            models=self._reporter.models(),
            sampler=self._sampler,
            triton_starts=self._reporter.triton_starts(),
            open_signals=[_open(entry) for entry in self._book if entry.active],
        )

    async def ListModels(
        self, request: agent_pb2.ListServedModelsRequest, context: Context
    ) -> agent_pb2.ListServedModelsResponse:
        models = sorted(self._reporter.models(), key=lambda each: each.model)
        page, token = window(
            [each.model for each in models],
            size=request.page_size,
            token=request.page_token,
            scope="models",
        )
        return agent_pb2.ListServedModelsResponse(models=models[page], next_page_token=token)

    async def WatchSignals(
        self, request: agent_pb2.WatchSignalsRequest, context: Context
    ) -> AsyncIterator[agent_pb2.WatchSignalsResponse]:
        revision = request.revision
        while True:
            for entry in self._book.after(revision):
                revision = entry.revision
                yield agent_pb2.WatchSignalsResponse(revision=revision, signal=entry.signal)
            if self._book.revision <= revision:
                await self._news.wait(5.0)

    async def RecordOutcomes(
        self, request: agent_pb2.RecordOutcomesRequest, context: Context
    ) -> agent_pb2.RecordOutcomesResponse:
        return await self._recorded.once(request.request_id, request, lambda: self._record(request))

    async def _record(
        self, request: agent_pb2.RecordOutcomesRequest
    ) -> agent_pb2.RecordOutcomesResponse:
        model = names.parse_model(request.model, field="model")
        result = await self._watcher.record(model, [_outcome(o) for o in request.outcomes])
        return agent_pb2.RecordOutcomesResponse(
            joined=len(result.joined),
            unmatched=result.unmatched,
            repeated_outcomes=result.repeated,
        )


def _open(entry: Entry) -> agent_pb2.OpenSignal:
    asked = entry.request is Request.WANTED
    due = datetime.fromtimestamp(entry.retry_at, UTC) if entry.retry_at else None
    return agent_pb2.OpenSignal(
        signal=entry.signal,
        answer=entry.answer,
        refused=entry.refused,
        request_time=(to_timestamp(due) or entry.signal.detect_time) if asked else None,
    )


def _outcome(message: agent_pb2.Outcome) -> Outcome:
    truth = message.label if message.HasField("label") else message.value
    return Outcome(message.request_id, message.row, truth)
