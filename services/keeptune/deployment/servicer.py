"""DeploymentService: validate, call, convert. Hosts' link: `link_servicer`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from sqlalchemy import Connection

from keeptune.deployment import convert, convert_fleet, rollout
from keeptune.deployment.admission import check_passed
from keeptune.deployment.captures import Captures
from keeptune.deployment.fleet import Host
from keeptune.deployment.registry import Registry
from keeptune.deployment.rollout import Rollout
from keeptune.deployment.sql_store import hosts, registry
from keeptune.runtime import logging, names
from keeptune.runtime.clock import Clock
from keeptune.runtime.convert import apply_update_mask
from keeptune.runtime.db import Database
from keeptune.runtime.errors import NotFound, NotImplementedYet
from keeptune.runtime.events import Events
from keeptune.runtime.ledger import mutate
from keeptune.runtime.records import Page, Record, Records
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc, evaluation_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
M = TypeVar("M", bound=Message)
T = TypeVar("T")

log = structlog.get_logger()

_UPDATABLE = ("display_name", "monitoring", "host_selector", "labels")


class _NotAnsweredYetError(Exception):
    """The request is new."""


class DeploymentServicer(deployment_pb2_grpc.DeploymentServiceServicer):
    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        versions: Registry,
        captures: Captures,
        evaluations: evaluation_pb2_grpc.EvaluationServiceAsyncStub,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._versions = versions
        self._captures = captures
        self._evaluations = evaluations
        self._wake = wake

    # --- registry ---

    async def CreateModel(
        self, request: deployment_pb2.CreateModelRequest, context: Context
    ) -> deployment_pb2.Model:
        name = names.model_name(request.model_id)
        model = convert.model_from_proto(request.model)

        def create(c: Connection) -> deployment_pb2.Model:
            record = registry.models.create(c, name, model, labels=dict(request.model.labels))
            return convert.model_to_proto(record)

        return await self._once(request, deployment_pb2.Model, create)

    async def GetModel(
        self, request: deployment_pb2.GetModelRequest, context: Context
    ) -> deployment_pb2.Model:
        record = await self._database.read(lambda c: registry.models.get(c, request.name))
        return convert.model_to_proto(record)

    async def ListModels(
        self, request: deployment_pb2.ListModelsRequest, context: Context
    ) -> deployment_pb2.ListModelsResponse:
        page = await self._page(registry.models, request)
        return deployment_pb2.ListModelsResponse(
            models=[convert.model_to_proto(each) for each in page.items],
            next_page_token=page.next_page_token,
        )

    async def UpdateModel(
        self, request: deployment_pb2.UpdateModelRequest, context: Context
    ) -> deployment_pb2.Model:
        names.parse_model(request.model.name, field="model.name")

        def update(c: Connection) -> deployment_pb2.Model:
            record = registry.lock(c, request.model.name)
            wanted = apply_update_mask(
                convert.model_to_proto(record), request.model, request.update_mask, _UPDATABLE
            )
            changed = convert.model_from_proto(wanted)
            doc = replace(
                record.doc,
                display_name=changed.display_name,
                monitoring=changed.monitoring,
                host_selector=changed.host_selector,
            )
            labels = dict(wanted.labels)
            etag = request.model.metadata.etag
            record = registry.models.put(c, record.name, doc, etag=etag, labels=labels)
            return convert.model_to_proto(record)

        return await self._once(request, deployment_pb2.Model, update)

    async def CreateModelVersion(
        self, request: deployment_pb2.CreateModelVersionRequest, context: Context
    ) -> deployment_pb2.ModelVersion:
        known = await self._answered(request, deployment_pb2.ModelVersion)
        if known is not None:
            return known
        await self._database.read(lambda c: registry.models.get(c, request.parent))
        version = await self._versions.examine(request.version)

        def create(c: Connection) -> deployment_pb2.ModelVersion:
            labels = dict(request.version.labels)
            record = self._versions.add(c, request.parent, version, labels)
            log.info("version registered", version=record.name)
            return convert.version_to_proto(record)

        return await self._once(request, deployment_pb2.ModelVersion, create)

    async def GetModelVersion(
        self, request: deployment_pb2.GetModelVersionRequest, context: Context
    ) -> deployment_pb2.ModelVersion:
        record = await self._database.read(lambda c: registry.versions.get(c, request.name))
        return convert.version_to_proto(record)

    async def ListModelVersions(
        self, request: deployment_pb2.ListModelVersionsRequest, context: Context
    ) -> deployment_pb2.ListModelVersionsResponse:
        page = await self._page(registry.versions, request, parent=request.parent)
        return deployment_pb2.ListModelVersionsResponse(
            versions=[convert.version_to_proto(each) for each in page.items],
            next_page_token=page.next_page_token,
        )

    async def ExportCaptures(
        self, request: deployment_pb2.ExportCapturesRequest, context: Context
    ) -> deployment_pb2.CaptureExport:
        known = await self._answered(request, deployment_pb2.CaptureExport)
        if known is not None:
            return known
        await self._database.read(lambda c: registry.models.get(c, request.model))
        export = await self._captures.export(request)
        return await self._once(request, deployment_pb2.CaptureExport, lambda _: export)

    # --- rollouts ---

    async def CreateRollout(
        self, request: deployment_pb2.CreateRolloutRequest, context: Context
    ) -> deployment_pb2.Rollout:
        known = await self._answered(request, deployment_pb2.Rollout)
        if known is not None:
            return known
        message = request.rollout
        if message.strategy.shadow:
            raise NotImplementedYet(
                "rollout.strategy.shadow: replaying recent traffic to a challenger comes later",
                field="rollout.strategy.shadow",
                fix="leave it out; a canary wave with a bake watches the version on real traffic",
            )
        strategy = convert_fleet.strategy_from_proto(message.strategy, field="rollout.strategy")
        if request.validate_only and not message.version:
            return deployment_pb2.Rollout(strategy=convert_fleet.strategy_to_proto(strategy))
        model, _ = names.parse_version(message.version, field="rollout.version")
        version = await self._database.read(lambda c: registry.versions.find(c, message.version))
        if version is None:
            raise NotFound(
                f"{message.version} does not exist",
                field="rollout.version",
                fix="register the version first",
            )
        await check_passed(self._evaluations, message.evaluation, version.name, version.doc)
        name = names.rollout_name(request.rollout_id or names.new_id())
        doc = Rollout(
            model=names.model_name(model),
            version=version.name,
            evaluation=message.evaluation,
            strategy=strategy,
            reason="looking for hosts",
            carried=logging.carried(),
        )

        def create(c: Connection) -> deployment_pb2.Rollout:
            record = registry.add_rollout(c, name, doc, dict(message.labels))
            if not request.validate_only:
                log.info("rollout created", rollout=name, version=doc.version)
            return convert_fleet.rollout_to_proto(record)

        if request.validate_only:
            return await self._database.rehearse(create)
        return await self._once(request, deployment_pb2.Rollout, create)

    async def GetRollout(
        self, request: deployment_pb2.GetRolloutRequest, context: Context
    ) -> deployment_pb2.Rollout:
        record = await self._database.read(lambda c: registry.rollouts.get(c, request.name))
        return convert_fleet.rollout_to_proto(record)

    async def ListRollouts(
        self, request: deployment_pb2.ListRolloutsRequest, context: Context
    ) -> deployment_pb2.ListRolloutsResponse:
        page = await self._page(registry.rollouts, request)
        return deployment_pb2.ListRolloutsResponse(
            rollouts=[convert_fleet.rollout_to_proto(each) for each in page.items],
            next_page_token=page.next_page_token,
        )

    async def WatchRollout(
        self, request: deployment_pb2.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[deployment_pb2.WatchRolloutResponse]:
        record = await self._database.read(lambda c: registry.rollouts.get(c, request.name))
        if record.doc.state.ended and request.revision >= record.revision:
            return
        async for event in Events.watch(self._database, request.name, request.revision):
            seen = registry.rollouts.from_event(event)
            yield deployment_pb2.WatchRolloutResponse(
                revision=event.revision, rollout=convert_fleet.rollout_to_proto(seen)
            )
            # A succeeded rollout may yet be rolled back: an older end is not the last word.
            if seen.doc.state.ended and event.revision >= record.revision:
                return

    async def PauseRollout(
        self, request: deployment_pb2.PauseRolloutRequest, context: Context
    ) -> deployment_pb2.Rollout:
        return await self._command(request, request.name, rollout.pause)

    async def ResumeRollout(
        self, request: deployment_pb2.ResumeRolloutRequest, context: Context
    ) -> deployment_pb2.Rollout:
        return await self._command(request, request.name, rollout.resume)

    async def RollBack(
        self, request: deployment_pb2.RollBackRequest, context: Context
    ) -> deployment_pb2.Rollout:
        def roll_back(doc: Rollout, name: str, now: datetime) -> Rollout:
            return rollout.roll_back(doc, name, request.reason, now)

        return await self._command(request, request.name, roll_back)

    async def _command(
        self,
        request: Message,
        name: str,
        change: Callable[[Rollout, str, datetime], Rollout],
    ) -> deployment_pb2.Rollout:
        def work(c: Connection) -> deployment_pb2.Rollout:
            found = registry.rollouts.get(c, name)
            registry.lock(c, found.doc.model)
            found = registry.rollouts.get(c, name)
            changed = change(found.doc, name, self._clock.now())
            if changed == found.doc:
                return convert_fleet.rollout_to_proto(found)
            if found.doc.state.ended:
                registry.take_back_champion(c, found)
            return convert_fleet.rollout_to_proto(registry.save_rollout(c, found, changed))

        return await self._once(request, deployment_pb2.Rollout, work)

    # --- hosts ---

    async def ListHosts(
        self, request: deployment_pb2.ListHostsRequest, context: Context
    ) -> deployment_pb2.ListHostsResponse:
        page = await self._page(hosts.hosts, request)
        seen = await self._database.read(
            lambda c: hosts.sightings(c, [each.name for each in page.items])
        )
        return deployment_pb2.ListHostsResponse(
            hosts=[_host(each, hosts.sighting_of(seen, each.name)) for each in page.items],
            next_page_token=page.next_page_token,
        )

    async def GetHost(
        self, request: deployment_pb2.GetHostRequest, context: Context
    ) -> deployment_pb2.Host:
        record = await self._database.read(lambda c: hosts.hosts.get(c, request.name))
        seen = await self._database.read(lambda c: hosts.sightings(c, [request.name]))
        return _host(record, hosts.sighting_of(seen, request.name))

    async def RenderManifests(
        self, request: deployment_pb2.RenderManifestsRequest, context: Context
    ) -> deployment_pb2.RenderManifestsResponse:
        raise NotImplementedYet(
            "RenderManifests: Kubernetes objects sized from a model's measured load come later",
            fix="run Triton and `keeptune agent run` in a pod of your own, and let it enroll",
        )

    # --- shared ---

    async def _once(
        self, request: Any, response_type: type[M], work: Callable[[Connection], M]
    ) -> M:
        """Does a mutation once for its request_id, in one transaction, and wakes the loop."""
        answer = await self._database.run(
            lambda c: mutate(
                c,
                request_id=request.request_id,
                method=type(request).__name__,
                request=request,
                response_type=response_type,
                fn=partial(work, c),
            )
        )
        self._wake()
        return answer

    async def _answered(self, request: Any, response_type: type[M]) -> M | None:
        """The first answer to a request that was made before; looks before costly work is done."""

        def not_yet(_: Connection) -> M:
            raise _NotAnsweredYetError

        try:
            return await self._once(request, response_type, not_yet)
        except _NotAnsweredYetError:
            return None

    async def _page(self, kind: Records[T], request: Any, *, parent: str | None = None) -> Page[T]:
        return await self._database.read(
            lambda c: kind.list(
                c,
                parent=parent,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )


def _host(record: Record[Host], sighting: hosts.Sighting) -> deployment_pb2.Host:
    return convert_fleet.host_to_proto(record, sighting.report, sighting.last_seen)
