"""What workers call: suggest, report, complete, and all three over one stream.

Each call is one durable transaction, shared with others (see `desk`); two, where it ends a trial
and the next suggestions must be computed with its result. What takes time, computing suggestions,
is done between transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from typing import Any

import grpc

from keeptune.runtime.artifacts import from_proto as artifact_from_proto
from keeptune.runtime.errors import KeeptuneError, Unavailable
from keeptune.runtime.names import parse_study, parse_trial, study_name
from keeptune.runtime.validation import validate
from keeptune.search import convert, leasing
from keeptune.search.desk import Call
from keeptune.search.hot import Hot, HotStudies
from keeptune.search.leasing import NeedSuggestionsError, Outcome
from keeptune.search.model import TrialState
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2

# Only replicas at the same study make a call try again more than once or twice.
_MAX_TRIES = 50


class WorkerProtocol:
    def __init__(self, hot: HotStudies) -> None:
        self._hot = hot

    async def suggest(
        self, request: search_pb2.SuggestTrialsRequest
    ) -> search_pb2.SuggestTrialsResponse:
        hot = self._hot.of(parse_study(request.study, field="study"))

        def serve(work: UnitOfWork) -> search_pb2.SuggestTrialsResponse:
            count = request.count or 1
            return leasing.suggest(work, request.worker, count, hot.suggestions.supply)

        return await _handed_out(hot, request, serve)

    async def report(
        self, request: search_pb2.ReportMeasurementsRequest
    ) -> search_pb2.ReportMeasurementsResponse:
        study, number = parse_trial(request.trial, field="trial")
        hot = self._hot.of(study)
        reported = [convert.measurement_from_proto(each) for each in request.measurements]
        leasing.check_metrics(reported, "measurements")
        verdict = ""
        if reported:
            fresh = [(each.step, dict(each.metrics)) for each in reported]
            verdict = await hot.curves.verdict(number, fresh)

        def serve(work: UnitOfWork) -> search_pb2.ReportMeasurementsResponse:
            return leasing.report(work, number, request.lease_token, reported, verdict)

        response = search_pb2.ReportMeasurementsResponse
        return await hot.desk.answer(Call("ReportMeasurements", request, response, serve))

    async def complete(
        self, request: search_pb2.CompleteTrialRequest
    ) -> search_pb2.CompleteTrialResponse:
        study, number = parse_trial(request.trial, field="trial")
        hot = self._hot.of(study)
        token, supply = request.lease_token, hot.suggestions.supply
        outcome = _outcome(request)
        lacking = 0

        def serve(work: UnitOfWork) -> search_pb2.CompleteTrialResponse:
            nonlocal lacking
            lacking = 0
            worker = work.worker_with(number, token) if request.next else None
            response = leasing.complete(work, number, token, outcome)
            if worker is not None and response.accepted:
                try:
                    following = leasing.suggest_further(work, worker, request.next, supply)
                except NeedSuggestionsError as need:
                    # The result is kept first, so that they are computed with it.
                    lacking = need.count
                else:
                    response.next.CopyFrom(following)
            return response

        answer_type = search_pb2.CompleteTrialResponse
        response = await hot.desk.answer(Call("CompleteTrial", request, answer_type, serve))
        if not request.next or response.HasField("next"):
            return response
        if lacking:
            await _prepare(hot, lacking)
        # A call that comes again must not get more and more trials.
        hand_out = leasing.suggest_further if response.accepted else leasing.suggest

        def go_on(work: UnitOfWork) -> search_pb2.SuggestTrialsResponse:
            worker = work.worker_with(number, token)
            if worker is None:  # never held by this lease: there is no one to give more
                return search_pb2.SuggestTrialsResponse()
            return hand_out(work, worker, request.next, supply)

        wanted = search_pb2.SuggestTrialsRequest(
            request_id=_derived(request.request_id), study=study_name(study), count=request.next
        )
        following = await _handed_out(hot, wanted, go_on)
        if following.study_state:
            response.next.CopyFrom(following)
        return response

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


async def _handed_out(
    hot: Hot,
    request: search_pb2.SuggestTrialsRequest,
    serve: Callable[[UnitOfWork], search_pb2.SuggestTrialsResponse],
) -> search_pb2.SuggestTrialsResponse:
    call = Call("SuggestTrials", request, search_pb2.SuggestTrialsResponse, serve)
    for _ in range(_MAX_TRIES):
        try:
            return await hot.desk.answer(call)
        except NeedSuggestionsError as need:
            await _prepare(hot, need.count)
    raise Unavailable(
        f"{request.study} is changed by others all the time",
        fix="call again",
        retry_after=1.0,
    )


async def _prepare(hot: Hot, count: int) -> None:
    """Goes on when the caller has gone: others may wait for the same."""
    await asyncio.shield(asyncio.create_task(hot.suggestions.prepare(count)))


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
