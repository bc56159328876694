"""TrainingService: validate, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc.aio
import structlog
from sqlalchemy import Connection

from keeptune.runtime import ledger, logging
from keeptune.runtime.clock import Clock
from keeptune.runtime.db import Database
from keeptune.runtime.errors import FailedPrecondition, NotFound
from keeptune.runtime.events import Event, Events
from keeptune.runtime.names import new_id, parse_trainer, training_name
from keeptune.runtime.page_tokens import window
from keeptune.runtime.records import Record
from keeptune.training import store
from keeptune.training.admission import Admission
from keeptune.training.convert import trainer_to_proto, training_from_proto, training_to_proto
from keeptune.training.model import Training, TrainingState
from keeptune.training.store import trainings
from keeptune.training.supervisor import Supervisor
from keeptune.training.trainers.registry import Trainers
from keeptune.v1 import training_pb2, training_pb2_grpc

ServicerContext = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    def __init__(
        self,
        database: Database,
        trainers: Trainers,
        admission: Admission,
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        self._database = database
        self._trainers = trainers
        self._admission = admission
        self._supervisor = supervisor
        self._clock = clock

    async def ListTrainers(
        self, request: training_pb2.ListTrainersRequest, context: ServicerContext
    ) -> training_pb2.ListTrainersResponse:
        found = self._trainers.usable()
        page, token = window(
            [each.name for each in found],
            size=request.page_size,
            token=request.page_token,
            scope="trainers",
        )
        return training_pb2.ListTrainersResponse(
            trainers=[trainer_to_proto(each) for each in found[page]], next_page_token=token
        )

    async def GetTrainer(
        self, request: training_pb2.GetTrainerRequest, context: ServicerContext
    ) -> training_pb2.Trainer:
        if parse_trainer(request.name) not in self._trainers.ids:
            raise NotFound(
                f"{request.name} is not installed",
                fix="use one of " + ", ".join(f"trainers/{each}" for each in self._trainers.ids),
                metadata={"name": request.name},
            )
        return trainer_to_proto(self._trainers.get(request.name))

    async def CreateTraining(
        self, request: training_pb2.CreateTrainingRequest, context: ServicerContext
    ) -> training_pb2.Training:
        # Looked up first: a repeated request gets its answer though its data may be gone by now.
        answer = await self._database.read(lambda c: _answered(c, request))
        if answer is not None:
            return answer
        training = replace(
            await self._admission.admit(
                training_from_proto(request.training), keep=not request.validate_only
            ),
            carried=logging.carried(),
        )
        name = training_name(request.training_id or new_id())

        def work(c: Connection) -> training_pb2.Training:
            return ledger.mutate(
                c,
                request_id=request.request_id,
                method="CreateTraining",
                request=request,
                response_type=training_pb2.Training,
                fn=lambda: training_to_proto(create(c)),
            )

        def create(c: Connection) -> Record[Training]:
            if not request.validate_only:
                log.info("training created", training=name, trainer=training.trainer)
            return trainings.create(c, name, training, state=training.state, labels=training.labels)

        if request.validate_only:
            return await self._database.rehearse(lambda c: training_to_proto(create(c)))
        created = await self._database.run(work)
        self._supervisor.wake()
        return created

    async def GetTraining(
        self, request: training_pb2.GetTrainingRequest, context: ServicerContext
    ) -> training_pb2.Training:
        return training_to_proto(
            await self._database.read(lambda c: trainings.get(c, request.name))
        )

    async def ListTrainings(
        self, request: training_pb2.ListTrainingsRequest, context: ServicerContext
    ) -> training_pb2.ListTrainingsResponse:
        page = await self._database.read(
            lambda c: trainings.list(
                c,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )
        return training_pb2.ListTrainingsResponse(
            trainings=[training_to_proto(record) for record in page.items],
            next_page_token=page.next_page_token,
        )

    async def CancelTraining(
        self, request: training_pb2.CancelTrainingRequest, context: ServicerContext
    ) -> training_pb2.Training:
        """Kills the training's workers. Cancelling it again changes nothing."""

        def work(c: Connection) -> training_pb2.Training:
            return ledger.mutate(
                c,
                request_id=request.request_id,
                method="CancelTraining",
                request=request,
                response_type=training_pb2.Training,
                fn=lambda: training_to_proto(self._cancel(c, request.name)),
            )

        cancelled = await self._database.run(work)
        self._supervisor.wake()
        return cancelled

    async def WatchTraining(
        self, request: training_pb2.WatchTrainingRequest, context: ServicerContext
    ) -> AsyncIterator[training_pb2.WatchTrainingResponse]:
        """Events after the revision, until the training has ended and all were told."""
        record = await self._database.read(lambda c: trainings.get(c, request.name))
        if not record.doc.active and record.revision <= request.revision:
            return
        async for event in Events.watch(self._database, request.name, request.revision):
            response = _event_to_proto(event)
            yield response
            if response.WhichOneof("event") == "training":
                training = trainings.from_event(event).doc
                if not training.active:
                    return

    def _cancel(self, c: Connection, name: str) -> Record[Training]:
        record = trainings.get(c, name)
        if record.doc.state is TrainingState.CANCELLED:
            return record
        if not record.doc.active:
            raise FailedPrecondition(
                f"{name} has ended already ({record.doc.state.value})",
                fix="nothing is left to cancel",
                metadata={"state": record.doc.state.value},
            )
        return store.change(c, name, lambda t: t.cancelled(self._clock.now()))


def _answered(
    c: Connection, request: training_pb2.CreateTrainingRequest
) -> training_pb2.Training | None:
    return ledger.answered(
        c,
        request_id=request.request_id,
        method="CreateTraining",
        request=request,
        response_type=training_pb2.Training,
    )


def _event_to_proto(event: Event) -> training_pb2.WatchTrainingResponse:
    response = training_pb2.WatchTrainingResponse(revision=event.revision)
    if event.kind == store.PROGRESS:
        response.progress.ParseFromString(event.payload)
    elif event.kind == store.ANOMALY:
        response.anomaly.ParseFromString(event.payload)
    else:
        response.training.CopyFrom(training_to_proto(trainings.from_event(event)))
    return response
