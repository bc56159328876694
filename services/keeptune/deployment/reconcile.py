"""The loop that brings hosts to what they should be. Level-triggered.

Each look reads what is (rollouts, reports, orders), plans (`waves`, `steady`), and writes the
outcome and the orders in one transaction a model: at news all models, else those that are not where
they should be. Nothing is kept in memory between turns, so a
service killed anywhere goes on where its database stands. The links send what stands there.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from keeptune.deployment import orders as rules
from keeptune.deployment import steady, waves
from keeptune.deployment.convert import monitoring_to_proto, version_to_proto
from keeptune.deployment.convert_fleet import order_to_proto
from keeptune.deployment.fleet import Action, Host, HostState, HostView, Order, OrderKind
from keeptune.deployment.model import Model, Monitoring
from keeptune.deployment.packaging import choose_backend, package
from keeptune.deployment.rollout import Rollout, RolloutState
from keeptune.deployment.sql_store import hosts as host_store
from keeptune.deployment.sql_store import orders as order_store
from keeptune.deployment.sql_store import registry
from keeptune.deployment.sql_store.hosts import Sighting
from keeptune.runtime import documents, tasks
from keeptune.runtime.clock import Clock
from keeptune.runtime.db import Database
from keeptune.runtime.errors import FailedPrecondition, KeeptuneError, NotFound
from keeptune.runtime.logging import bound, carried
from keeptune.runtime.records import Record
from keeptune.v1 import deployment_pb2

log = structlog.get_logger()

# How long a model that is as it should be may be left alone without news. What is due with time,
# and what another replica has begun, is found so.
_ALL_SECONDS = 10.0
# A transition leads to another at once (a bake of zero seconds); more in a row would be a defect.
_MAX_TRANSITIONS = 1000


class Reconciler:
    """Turns what should be into orders, every `seconds` and whenever it is woken."""

    def __init__(
        self, database: Database, clock: Clock, *, seconds: float, away_after: timedelta
    ) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds
        self._away_after = away_after
        self._news = asyncio.Event()
        self._all_due = -math.inf
        self._unsettled: frozenset[str] = frozenset()

    def wake(self) -> None:
        """Something has changed: look at everything now."""
        self._all_due = -math.inf
        self._news.set()

    async def run(self) -> None:
        """For ever. Temporary errors are waited out; others are raised."""
        await tasks.every(self._clock, 0.0, self._turn, name="reconcile")

    async def _turn(self) -> None:
        self._news.clear()
        now = self._clock.now()
        marked = await self._database.run(lambda c: _mark_away(c, now, self._away_after))
        if marked or self._clock.monotonic() >= self._all_due:
            # Before the look, so that what happens meanwhile is looked at after it.
            self._all_due = self._clock.monotonic() + _ALL_SECONDS
            self._unsettled = await self._database.read(_every_model)
        try:
            self._unsettled = await self._look(self._unsettled)
        except BaseException:
            self._all_due = -math.inf
            raise
        await tasks.rest(self._clock, self._seconds, self._news)

    async def _look(self, models: frozenset[str]) -> frozenset[str]:
        """Brings models where they should be, as far as it goes now; those with more to do."""
        unsettled = set()
        for model in sorted(models):
            try:
                settled = await self._database.run(partial(self._reconcile, model))
            except NotFound:
                continue
            except Exception as error:
                if isinstance(error, KeeptuneError) and error.retryable:
                    raise
                # One model's trouble, even a defect of ours, must not stop the others; it is
                # looked at again next turn.
                log.exception("model not reconciled", model=model)
                settled = False
            if not settled:
                unsettled.add(model)
        return frozenset(unsettled)

    def _reconcile(self, name: str, connection: Connection) -> bool:
        """One model on all hosts, in one transaction; whether it is all as it should be."""
        model = registry.lock(connection, name)
        turn = _Turn(connection, name, model.doc, self._clock.now(), self._away_after)
        turn.take()
        return turn.settled


@dataclass(frozen=True)
class _Fleet:
    """The hosts as they are for one model: those it selects, and those it does not."""

    matching: Mapping[str, HostView]
    others: Mapping[str, HostView]
    backends: Mapping[str, tuple[str, ...]]

    def view(self, host: str) -> HostView | None:
        return self.matching.get(host) or self.others.get(host)


class _Turn:
    """One turn for one model."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        model: Model,
        now: datetime,
        away_after: timedelta,
    ) -> None:
        self._connection = connection
        self._name = name
        self._model = model
        self._now = now
        self._away_after = away_after
        self.settled = True

    def take(self) -> None:
        fleet = self._fleet()
        rollout = registry.open_rollout(self._connection, self._name)
        covered: frozenset[str] = frozenset()
        champion = self._model.champion
        if rollout is not None:
            with bound(**rollout.doc.carried):
                ended = self._roll(rollout, fleet)
            champion = registry.models.get(self._connection, self._name).doc.champion
            if not ended.state.ended:
                self.settled = False
                covered = frozenset(host.host for host in ended.hosts)
        self._settle(fleet, champion, covered)
        self._configure(fleet)

    def _fleet(self) -> _Fleet:
        newest = order_store.newest(self._connection, self._name)
        seen = host_store.sightings(self._connection)
        matching: dict[str, HostView] = {}
        others: dict[str, HostView] = {}
        backends: dict[str, tuple[str, ...]] = {}
        for record in host_store.all_hosts(self._connection):
            sighting = host_store.sighting_of(seen, record.name)
            view = self._view(record, sighting, newest.get(record.name))
            selected = self._model.selects(sighting.report.info.labels)
            (matching if selected else others)[record.name] = view
            backends[record.name] = sighting.report.info.backends
        return _Fleet(matching, others, backends)

    def _view(self, record: Record[Host], sighting: Sighting, order: Order | None) -> HostView:
        trouble = _trouble(sighting, self._now, self._away_after)
        return HostView(
            name=record.name,
            reachable=not trouble,
            served=sighting.report.of(self._name),
            order=order,
            trouble=trouble,
        )

    def _roll(self, record: Record[Rollout], fleet: _Fleet) -> Rollout:
        """Plans until nothing changes, then writes it down and orders what is due."""
        rollout = record.doc
        taking_part = {host.host for host in rollout.hosts}
        hosts = {
            **fleet.matching,
            **{name: view for name, view in fleet.others.items() if name in taking_part},
        }
        for _ in range(_MAX_TRANSITIONS):
            plan = waves.plan(record.name, rollout, hosts, self._now)
            if plan.rollout == rollout:
                break
            rollout = plan.rollout
        if rollout != record.doc:
            registry.save_rollout(self._connection, record, rollout)
            if rollout.state is not record.doc.state:
                log.info("rollout", rollout=record.name, state=rollout.state, reason=rollout.reason)
        if rollout.state is RolloutState.SUCCEEDED:
            registry.set_champion(self._connection, self._name, rollout.version)
        if rollout.state.ended:
            order_store.supersede_rollout(self._connection, record.name)
        for action in plan.actions:
            self._order(action, fleet, record.name)
        return rollout

    def _settle(self, fleet: _Fleet, champion: str, covered: frozenset[str]) -> None:
        broken: frozenset[str] = frozenset()
        if not champion:
            broken = registry.rolled_back_versions(self._connection, self._name)
        free = [view for name, view in fleet.matching.items() if name not in covered]
        strangers = [view for name, view in fleet.others.items() if name not in covered]
        actions = steady.settle(champion, free, broken=broken) + steady.remove(strangers)
        for action in actions:
            self._order(action, fleet, "")

    def _configure(self, fleet: _Fleet) -> None:
        """Tells hosts how the model is watched now, if they were told otherwise."""
        digest = monitoring_digest(self._model.monitoring)
        known = order_store.monitoring_known(self._connection, self._name)
        asked = order_store.newest(self._connection, self._name, configuring=True)
        for name, view in fleet.matching.items():
            holds_any = view.served.serving or view.served.staged
            if not view.reachable or not holds_any or known.get(name) == digest:
                continue
            self.settled = False
            action = Action(name, OrderKind.CONFIGURE, version=digest)
            if rules.is_due(action, "", asked.get(name), self._now):
                self._give(action, "", rules.attempt(action, "", asked.get(name)), fleet)

    def _order(self, action: Action, fleet: _Fleet, rollout: str) -> None:
        self.settled = False
        view = fleet.view(action.host)
        last = view.order if view is not None else None
        if rules.is_due(action, rollout, last, self._now):
            self._give(action, rollout, rules.attempt(action, rollout, last), fleet)

    def _give(self, action: Action, rollout: str, attempts: int, fleet: _Fleet) -> None:
        monitoring = ""
        artifacts: list[str] = []
        stage: deployment_pb2.StageVersion | None = None
        if action.kind is OrderKind.STAGE:
            stage, artifacts = self._staging(action.version, fleet.backends[action.host])
        if action.kind in (OrderKind.STAGE, OrderKind.CONFIGURE):
            monitoring = monitoring_digest(self._model.monitoring)

        def payload(order_id: str, sequence: int) -> bytes:
            order = order_to_proto(order_id, sequence, self._name, action)
            order.carried.update(carried())
            if stage is not None:
                order.stage.CopyFrom(stage)
            if action.kind is OrderKind.CONFIGURE:
                order.configure.monitoring.CopyFrom(monitoring_to_proto(self._model.monitoring))
            return order.SerializeToString()

        order_store.give(
            self._connection,
            host=action.host,
            model=self._name,
            kind=action.kind,
            version=action.version,
            rollout=rollout,
            attempts=attempts,
            monitoring=monitoring,
            artifacts=artifacts,
            payload=payload,
        )
        log.info(
            "order", host=action.host, model=self._name, kind=action.kind, version=action.version
        )

    def _staging(
        self, version: str, backends: tuple[str, ...]
    ) -> tuple[deployment_pb2.StageVersion, list[str]]:
        """What a host needs to stage a version, and the artifacts that it may fetch for it."""
        record = registry.versions.get(self._connection, version)
        layout = package(record.doc, backends)
        needed = [record.doc.onnx.sha256]
        if record.doc.reference_profile is not None:
            needed.append(record.doc.reference_profile.sha256)
        stage = deployment_pb2.StageVersion(
            version=version_to_proto(record),
            package=deployment_pb2.TritonPackage(backend=layout.backend, config=layout.config),
            monitoring=monitoring_to_proto(self._model.monitoring),
        )
        return stage, needed


def monitoring_digest(monitoring: Monitoring) -> str:
    """Equal for monitoring that watches equally."""
    return hashlib.sha256(documents.encode(monitoring).encode()).hexdigest()


def _every_model(connection: Connection) -> frozenset[str]:
    return frozenset(model.name for model in registry.every(registry.models, connection))


def _mark_away(connection: Connection, now: datetime, away_after: timedelta) -> bool:
    """Whether any host is AWAY that was not."""
    marked = False
    seen = host_store.sightings(connection)
    for record in host_store.all_hosts(connection):
        silence = _silence(host_store.sighting_of(seen, record.name), now, away_after)
        if silence and record.doc.state is HostState.CONNECTED:
            host_store.mark_away(connection, record, silence)
            marked = True
    return marked


def _trouble(sighting: Sighting, now: datetime, away_after: timedelta) -> str:
    """Why a host cannot be worked with now; "" when it can."""
    silence = _silence(sighting, now, away_after)
    if silence:
        return silence
    if not sighting.report.info.triton_ready:
        return "its Triton is not ready"
    try:
        choose_backend(sighting.report.info.backends)
    except FailedPrecondition as error:
        return error.message
    return ""


def _silence(sighting: Sighting, now: datetime, away_after: timedelta) -> str:
    if sighting.last_seen is None:
        return "it has not connected yet"
    if now - sighting.last_seen > away_after:
        return f"it has been silent since {sighting.last_seen:%Y-%m-%d %H:%M:%S} UTC"
    return ""
