"""What workers call: suggest, report, complete, and all three over one stream.

Each call is one durable transaction (two, where it ends a trial and hands out the next). What
takes time, computing suggestions, is done between transactions: one that lacks suggestions is left
without a trace, they are computed, and it is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from hashlib import blake2b
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from sqlalchemy import Connection

from keeptune.runtime.artifacts import from_proto as artifact_from_proto
from keeptune.runtime.db import Database
from keeptune.runtime.errors import KeeptuneError, Unavailable
from keeptune.runtime.ledger import mutate
from keeptune.runtime.names import parse_study, parse_trial, study_name
from keeptune.runtime.validation import validate
from keeptune.search import convert, leasing, sql_store
from keeptune.search.hot import HotStudies
from keeptune.search.leasing import HandedOut, NeedSuggestionsError, Outcome
from keeptune.search.model import TrialState
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)

# Only replicas at the same study make a call try again more than once or twice.
_MAX_TRIES = 50

_HandOut = Callable[[UnitOfWork, str, int, leasing.Supply], HandedOut]


class WorkerProtocol:
    def __init__(self, database: Database, hot: HotStudies) -> None:
        self._database = database
        self._hot = hot

    async def suggest(
        self, request: search_pb2.SuggestTrialsRequest
    ) -> search_pb2.SuggestTrialsResponse:
        return await _to_the_end(self._suggest(request, leasing.suggest))

    async def report(
        self, request: search_pb2.ReportMeasurementsRequest
    ) -> search_pb2.ReportMeasurementsResponse:
        study, number = parse_trial(request.trial, field="trial")
        reported = [convert.measurement_from_proto(each) for each in request.measurements]
        leasing.check_metrics(reported, "measurements")
        verdict = ""
        if reported:
            fresh = [(each.step, dict(each.metrics)) for each in reported]
            verdict = await self._hot.of(study).curves.verdict(number, fresh)

        def once(connection: Connection) -> search_pb2.ReportMeasurementsResponse:
            work = UnitOfWork.begin(connection, study)
            return leasing.report(work, number, request.lease_token, reported, verdict)

        return await self._mutate(
            "ReportMeasurements", request, search_pb2.ReportMeasurementsResponse, once
        )

    async def complete(
        self, request: search_pb2.CompleteTrialRequest
    ) -> search_pb2.CompleteTrialResponse:
        return await _to_the_end(self._complete(request))

    async def work(
        self, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[search_pb2.WorkTrialsResponse]:
        """Answers message by message; one that is refused does not end the stream."""
        while True:
            # Read here and not through the interceptor, which would end the stream when a message
            # breaks a constraint.
            message = await context.read()
            if message is grpc.aio.EOF:
                return
            assert isinstance(message, search_pb2.WorkTrialsRequest)
            try:
                validate(message)
                answer = await self._answer(message)
            except KeeptuneError as error:
                answer = search_pb2.WorkTrialsResponse(
                    error=search_pb2.WorkError(
                        code=error.code.value[0],
                        message=error.message,
                        reason=error.reason,
                        field=error.field,
                    )
                )
            answer.request_id = message.request_id
            yield answer

    async def _answer(self, message: search_pb2.WorkTrialsRequest) -> search_pb2.WorkTrialsResponse:
        match message.WhichOneof("message"):
            case "suggest":
                return search_pb2.WorkTrialsResponse(suggest=await self.suggest(message.suggest))
            case "report":
                return search_pb2.WorkTrialsResponse(report=await self.report(message.report))
            case _:
                return search_pb2.WorkTrialsResponse(complete=await self.complete(message.complete))

    async def _suggest(
        self, request: search_pb2.SuggestTrialsRequest, hand_out: _HandOut
    ) -> search_pb2.SuggestTrialsResponse:
        study = parse_study(request.study, field="study")
        suggestions = self._hot.of(study).suggestions
        created: list[int] = []

        def once(connection: Connection) -> search_pb2.SuggestTrialsResponse:
            created.clear()
            work = UnitOfWork.begin(connection, study)
            handed = hand_out(work, request.worker, request.count or 1, suggestions.supply)
            created.extend(handed.created)
            return handed.response

        for _ in range(_MAX_TRIES):
            try:
                response = await self._mutate(
                    "SuggestTrials", request, search_pb2.SuggestTrialsResponse, once
                )
            except NeedSuggestionsError as need:
                await suggestions.prepare(need.count)
            else:
                suggestions.confirm(tuple(created))
                return response
        raise Unavailable(
            f"{request.study} is changed by others all the time",
            fix="call again",
            retry_after=1.0,
        )

    async def _complete(
        self, request: search_pb2.CompleteTrialRequest
    ) -> search_pb2.CompleteTrialResponse:
        study, number = parse_trial(request.trial, field="trial")
        outcome = _outcome(request)

        worker: str | None = None
        lacking = 0

        def once(connection: Connection) -> search_pb2.CompleteTrialResponse:
            nonlocal lacking
            work = UnitOfWork.begin(connection, study)
            response = leasing.complete(work, number, request.lease_token, outcome)
            if response.accepted:
                lacking = min(request.next - work.progress.waiting, work.trials_left)
            return response

        def transaction(connection: Connection) -> search_pb2.CompleteTrialResponse:
            nonlocal worker, lacking
            lacking = 0
            if request.next:
                token = request.lease_token
                worker = sql_store.worker_with(connection, study, number, token)
            return self._once(
                connection, "CompleteTrial", request, search_pb2.CompleteTrialResponse, once
            )

        response = await self._database.run(transaction)
        if worker is None:
            return response
        if lacking > 0:
            # Known to be needed, so the transaction below will find them there.
            await self._hot.of(study).suggestions.prepare(lacking)
        wanted = search_pb2.SuggestTrialsRequest(
            request_id=_derived(request.request_id),
            study=study_name(study),
            worker=worker,
            count=request.next,
        )
        # A call that comes again must not get more and more trials.
        further = leasing.suggest_further if response.accepted else leasing.suggest
        response.next.CopyFrom(await self._suggest(wanted, further))
        return response

    async def _mutate(
        self, method: str, request: Any, response_type: type[M], once: Callable[[Connection], M]
    ) -> M:
        return await self._database.run(
            lambda connection: self._once(connection, method, request, response_type, once)
        )

    @staticmethod
    def _once(
        connection: Connection,
        method: str,
        request: Any,
        response_type: type[M],
        once: Callable[[Connection], M],
    ) -> M:
        return mutate(
            connection,
            request_id=request.request_id,
            method=method,
            request=request,
            response_type=response_type,
            fn=lambda: once(connection),
        )


def _outcome(request: search_pb2.CompleteTrialRequest) -> Outcome:
    artifacts = tuple(artifact_from_proto(artifact) for artifact in request.artifacts)
    match request.WhichOneof("outcome"):
        case "measurement":
            measurement = convert.measurement_from_proto(request.measurement)
            return Outcome(TrialState.COMPLETED, "", measurement, artifacts)
        case "infeasible":
            return Outcome(TrialState.INFEASIBLE, request.infeasible.reason, None, artifacts)
        case "failed":
            return Outcome(TrialState.FAILED, request.failed.reason, None, artifacts)
        case _:
            return Outcome(TrialState.PRUNED, "", None, artifacts)


def _derived(request_id: str) -> str:
    """The id of the second half of a request, as long as any."""
    if not request_id:
        return ""
    return f"next-{blake2b(request_id.encode(), digest_size=16).hexdigest()}"


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result; the work goes on when its caller has gone, so that memory and store agree."""
    return await asyncio.shield(asyncio.create_task(work))
