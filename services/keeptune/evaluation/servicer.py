"""EvaluationService: validate, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from sqlalchemy import Connection

from keeptune.evaluation import store
from keeptune.evaluation.admission import Admission
from keeptune.evaluation.convert import evaluation_message
from keeptune.evaluation.loop import Loop
from keeptune.runtime import logging, names
from keeptune.runtime.db import Database
from keeptune.runtime.events import Events
from keeptune.runtime.interceptors import ServicerContext
from keeptune.runtime.ledger import answered, mutate
from keeptune.v1 import evaluation_pb2 as pb
from keeptune.v1 import evaluation_pb2_grpc


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    def __init__(self, database: Database, admission: Admission, loop: Loop) -> None:
        self._database = database
        self._admission = admission
        self._loop = loop

    async def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: ServicerContext
    ) -> pb.Evaluation:
        # A repeated request is answered as it was, even if its data has gone meanwhile.
        earlier = await self._database.read(
            lambda c: answered(
                c,
                request_id=request.request_id,
                method="CreateEvaluation",
                request=request,
                response_type=pb.Evaluation,
            )
        )
        if earlier is not None:
            return earlier
        name = names.evaluation_name(request.evaluation_id or names.new_id("evaluation"))
        if request.validate_only and not request.evaluation.HasField("candidate"):
            await self._admission.check(request.evaluation)
            return pb.Evaluation(name=name)
        admitted = replace(
            await self._admission.admit(request.evaluation), carried=logging.carried()
        )
        labels = dict(request.evaluation.labels)

        def create(c: Connection) -> pb.Evaluation:
            return mutate(
                c,
                request_id=request.request_id,
                method="CreateEvaluation",
                request=request,
                response_type=pb.Evaluation,
                fn=lambda: evaluation_message(store.create(c, name, admitted, labels)),
            )

        if request.validate_only:
            return await self._database.rehearse(
                lambda c: evaluation_message(store.create(c, name, admitted, labels))
            )
        evaluation = await self._database.run(create)
        self._loop.wake()
        return evaluation

    async def GetEvaluation(
        self, request: pb.GetEvaluationRequest, context: ServicerContext
    ) -> pb.Evaluation:
        record = await self._database.read(lambda c: store.evaluations.get(c, request.name))
        return evaluation_message(record)

    async def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: ServicerContext
    ) -> pb.ListEvaluationsResponse:
        page = await self._database.read(
            lambda c: store.evaluations.list(
                c,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )
        return pb.ListEvaluationsResponse(
            evaluations=[evaluation_message(record, slices=False) for record in page.items],
            next_page_token=page.next_page_token,
        )

    async def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: ServicerContext
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        """Every change after the given revision; ends with the evaluation itself."""
        record = await self._database.read(lambda c: store.evaluations.get(c, request.name))
        if record.doc.state.ended and record.revision <= request.revision:
            return
        async for event in Events.watch(self._database, request.name, request.revision):
            then = store.evaluations.from_event(event)
            yield pb.WatchEvaluationResponse(
                revision=event.revision, evaluation=evaluation_message(then)
            )
            if then.doc.state.ended:
                return
