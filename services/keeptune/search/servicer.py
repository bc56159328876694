"""SearchService: validate, call, convert."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from sqlalchemy import Connection

from keeptune.runtime.convert import apply_update_mask
from keeptune.runtime.db import Database
from keeptune.runtime.events import Event, Events
from keeptune.runtime.ledger import mutate
from keeptune.runtime.names import parse_study, parse_trial, study_name
from keeptune.runtime.page_tokens import window
from keeptune.search import (
    convert,
    convert_insight,
    convert_study,
    extent,
    imports,
    listing,
    sql_store,
    studies,
)
from keeptune.search.hot import HotStudies
from keeptune.search.insight_servicer import InsightServicer
from keeptune.search.insights import Insights
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Algorithm
from keeptune.search.protocol import WorkerProtocol
from keeptune.search.unit_of_work import TRIAL_CHANGED, TRIAL_MEASURED, UnitOfWork
from keeptune.v1 import search_pb2

ServicerContext = grpc.aio.ServicerContext[Any, Any]
M = TypeVar("M", bound=Message)

log = structlog.get_logger()

_UPDATABLE = ("display_name", "budget", "pruning", "labels", "lease_duration", "max_retries")


class SearchServicer(InsightServicer):
    def __init__(
        self, database: Database, hot: HotStudies, executor: Executor, rng: random.Random
    ) -> None:
        super().__init__(Insights(database, executor))
        self._database = database
        self._hot = hot
        self._executor = executor
        self._rng = rng
        self._protocol = WorkerProtocol(hot)
        self._algorithms: tuple[Algorithm, ...] = ()
        self._finding = asyncio.Lock()

    async def CreateStudy(
        self, request: search_pb2.CreateStudyRequest, context: ServicerContext
    ) -> search_pb2.Study:
        asked = convert_study.study_from_proto(request.study, "study")
        seed = request.study.seed if request.study.HasField("seed") else None
        study = await asyncio.get_running_loop().run_in_executor(
            self._executor, studies.plan, asked, seed, self._rng, "study"
        )
        labels = dict(request.study.labels)

        def once(connection: Connection) -> search_pb2.Study:
            now = self._database.clock.now()
            record, progress = studies.create(connection, request.study_id, study, labels, now)
            if not request.validate_only:
                log.info("study created", study=record.name, algorithm=study.plan.algorithm)
            return convert.study_to_proto(record, progress)

        if request.validate_only:
            return await self._database.rehearse(once)

        return await self._mutate("CreateStudy", request, search_pb2.Study, once)

    async def GetStudy(
        self, request: search_pb2.GetStudyRequest, context: ServicerContext
    ) -> search_pb2.Study:
        return await self._database.read(lambda c: _read_study(c, request.name))

    async def ListStudies(
        self, request: search_pb2.ListStudiesRequest, context: ServicerContext
    ) -> search_pb2.ListStudiesResponse:
        def read(connection: Connection) -> search_pb2.ListStudiesResponse:
            page = sql_store.studies.list(
                connection,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
            ids = {record.name: parse_study(record.name) for record in page.items}
            progress = sql_store.all_progress(connection, list(ids.values()))
            return search_pb2.ListStudiesResponse(
                studies=[
                    convert.study_to_proto(record, progress[ids[record.name]])
                    for record in page.items
                ],
                next_page_token=page.next_page_token,
            )

        return await self._database.read(read)

    async def UpdateStudy(
        self, request: search_pb2.UpdateStudyRequest, context: ServicerContext
    ) -> search_pb2.Study:
        study_id = parse_study(request.study.name, field="study.name")

        def once(connection: Connection) -> search_pb2.Study:
            work = UnitOfWork.begin(connection, study_id)
            message = apply_update_mask(
                convert.study_to_proto(work.record, work.progress),
                request.study,
                request.update_mask,
                _UPDATABLE,
            )
            studies.update(
                work,
                lambda study: convert_study.changed(study, message),
                dict(message.labels),
                request.study.metadata.etag,
            )
            return convert.study_to_proto(work.record, work.progress)

        return await self._mutate("UpdateStudy", request, search_pb2.Study, once)

    async def StopStudy(
        self, request: search_pb2.StopStudyRequest, context: ServicerContext
    ) -> search_pb2.Study:
        study_id = parse_study(request.name)

        def once(connection: Connection) -> search_pb2.Study:
            work = UnitOfWork.begin(connection, study_id)
            studies.stop(work, request.reason)
            return convert.study_to_proto(work.record, work.progress)

        return await self._mutate("StopStudy", request, search_pb2.Study, once)

    async def DeleteStudy(
        self, request: search_pb2.DeleteStudyRequest, context: ServicerContext
    ) -> empty_pb2.Empty:
        def once(connection: Connection) -> empty_pb2.Empty:
            studies.delete(connection, request.name, request.etag)
            log.info("study deleted", study=request.name)
            return empty_pb2.Empty()

        answer = await self._mutate("DeleteStudy", request, empty_pb2.Empty, once)
        self._hot.forget(parse_study(request.name))
        return answer

    async def SuggestTrials(
        self, request: search_pb2.SuggestTrialsRequest, context: ServicerContext
    ) -> search_pb2.SuggestTrialsResponse:
        return await self._protocol.suggest(request)

    async def ReportMeasurements(
        self, request: search_pb2.ReportMeasurementsRequest, context: ServicerContext
    ) -> search_pb2.ReportMeasurementsResponse:
        return await self._protocol.report(request)

    async def CompleteTrial(
        self, request: search_pb2.CompleteTrialRequest, context: ServicerContext
    ) -> search_pb2.CompleteTrialResponse:
        return await self._protocol.complete(request)

    async def WorkTrials(
        self,
        request_iterator: AsyncIterator[search_pb2.WorkTrialsRequest],
        context: ServicerContext,
    ) -> AsyncIterator[search_pb2.WorkTrialsResponse]:
        async for answer in self._protocol.work(context):
            yield answer

    async def AddTrials(
        self, request: search_pb2.AddTrialsRequest, context: ServicerContext
    ) -> search_pb2.AddTrialsResponse:
        study_id = parse_study(request.study, field="study")
        known = [
            imports.known_from_proto(trial, f"trials[{i}]")
            for i, trial in enumerate(request.trials)
        ]

        def once(connection: Connection) -> search_pb2.AddTrialsResponse:
            added = imports.add(UnitOfWork.begin(connection, study_id), known)
            return search_pb2.AddTrialsResponse(
                trials=[convert.trial_to_proto(trial) for trial in added]
            )

        return await self._mutate("AddTrials", request, search_pb2.AddTrialsResponse, once)

    async def GetTrial(
        self, request: search_pb2.GetTrialRequest, context: ServicerContext
    ) -> search_pb2.Trial:
        study_id, number = parse_trial(request.name)

        def read(connection: Connection) -> search_pb2.Trial:
            trial = sql_store.get_trial(connection, study_id, number)
            attempts = sql_store.get_attempts(connection, study_id, [number])
            measurements = sql_store.get_measurements(connection, study_id, [number])
            return convert.trial_to_proto(
                trial,
                attempts=attempts.get(number, ()),
                measurements=measurements.get(number, ()),
            )

        return await self._database.read(read)

    async def ListTrials(
        self, request: search_pb2.ListTrialsRequest, context: ServicerContext
    ) -> search_pb2.ListTrialsResponse:
        study_id = parse_study(request.parent, field="parent")

        def read(connection: Connection) -> search_pb2.ListTrialsResponse:
            trials, token = listing.list_trials(
                connection,
                study_id,
                filter_by=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
            numbers = [trial.number for trial in trials]
            attempts = sql_store.get_attempts(connection, study_id, numbers)
            measurements = (
                sql_store.get_measurements(connection, study_id, numbers)
                if request.include_measurements
                else {}
            )
            return search_pb2.ListTrialsResponse(
                trials=[
                    convert.trial_to_proto(
                        trial,
                        attempts=attempts.get(trial.number, ()),
                        measurements=measurements.get(trial.number, ()),
                    )
                    for trial in trials
                ],
                next_page_token=token,
            )

        return await self._database.read(read)

    async def ListOptimalTrials(
        self, request: search_pb2.ListOptimalTrialsRequest, context: ServicerContext
    ) -> search_pb2.ListOptimalTrialsResponse:
        study_id = parse_study(request.parent, field="parent")
        front = await self._hot.of(study_id).best.front()
        numbers = front.numbers
        page, token = window(
            range(len(numbers)),
            size=request.page_size,
            token=request.page_token,
            scope=f"{request.parent} {numbers}",
        )
        trials, record = await self._database.read(
            lambda connection: (
                sql_store.get_trials(connection, study_id, numbers[page]),
                sql_store.studies.get(connection, study_name(study_id)),
            )
        )
        attained = await asyncio.get_running_loop().run_in_executor(
            self._executor, extent.of, front, record.doc, request.reference_point
        )
        return search_pb2.ListOptimalTrialsResponse(
            trials=[convert.trial_to_proto(trial) for trial in trials],
            next_page_token=token,
            hypervolume=convert_insight.hypervolume_to_proto(attained),
        )

    async def WatchStudy(
        self, request: search_pb2.WatchStudyRequest, context: ServicerContext
    ) -> AsyncIterator[search_pb2.WatchStudyResponse]:
        await self._database.read(lambda c: _read_study(c, request.study))
        async for event in Events.watch(self._database, request.study, request.revision):
            answer = await self._told(event)
            if answer is not None:
                yield answer

    async def ListAlgorithms(
        self, request: search_pb2.ListAlgorithmsRequest, context: ServicerContext
    ) -> search_pb2.ListAlgorithmsResponse:
        async with self._finding:  # what is installed does not change, and takes seconds to find
            if not self._algorithms:
                self._algorithms = await asyncio.get_running_loop().run_in_executor(
                    self._executor, lambda: tuple(registry.algorithms())
                )
        algorithms = self._algorithms
        page, token = window(
            range(len(algorithms)),
            size=request.page_size,
            token=request.page_token,
            scope="algorithms",
        )
        return search_pb2.ListAlgorithmsResponse(
            algorithms=[convert.algorithm_to_proto(algorithm) for algorithm in algorithms[page]],
            next_page_token=token,
        )

    async def _told(self, event: Event) -> search_pb2.WatchStudyResponse | None:
        """What watchers are told of an event."""
        revision = event.revision
        if event.kind == TRIAL_CHANGED:
            trial = search_pb2.Trial.FromString(event.payload)
            trial.metadata.revision = revision
            trial.metadata.etag = f"{revision:x}"
            return search_pb2.WatchStudyResponse(revision=revision, trial=trial)
        if event.kind == TRIAL_MEASURED:
            measurement = search_pb2.TrialMeasurement.FromString(event.payload)
            return search_pb2.WatchStudyResponse(revision=revision, measurement=measurement)
        # A study that is gone, without another in its place, ends the stream.
        progress = await self._database.read(
            lambda c: sql_store.get_progress(c, parse_study(event.stream))
        )
        if event.kind == "study.deleted":
            return None
        record = sql_store.studies.from_event(event)
        return search_pb2.WatchStudyResponse(
            revision=revision, study=convert.study_to_proto(record, progress)
        )

    async def _mutate(
        self, method: str, request: Any, response_type: type[M], once: Callable[[Connection], M]
    ) -> M:
        return await self._database.run(
            lambda connection: mutate(
                connection,
                request_id=request.request_id,
                method=method,
                request=request,
                response_type=response_type,
                fn=lambda: once(connection),
            )
        )


def _read_study(connection: Connection, name: str) -> search_pb2.Study:
    """Raises NotFound."""
    progress = sql_store.get_progress(connection, parse_study(name))
    record = sql_store.studies.get(connection, study_name(progress.study))
    return convert.study_to_proto(record, progress)
