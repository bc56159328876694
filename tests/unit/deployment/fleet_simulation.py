"""Hosts that behave at random, driven by the real planners through a book of orders in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from keeptune.deployment import orders as rules
from keeptune.deployment import steady, waves
from keeptune.deployment.fleet import (
    Action,
    HostView,
    Order,
    OrderKind,
    OrderState,
    Served,
    Statistics,
)
from keeptune.deployment.rollout import Rollout, RolloutState, Stage

MODEL = "models/m"
OLD = "models/m/versions/1"
NEW = "models/m/versions/2"
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=2)


@dataclass(frozen=True)
class Behaviour:
    """Chances a tick. `breaks`: the new version fails on this host when staged or promoted."""

    works: float = 0.7
    refuses: float = 0.0
    leaves: float = 0.0
    returns: float = 0.3
    loses_disk: float = 0.0
    goes_back: float = 0.0
    traffic: int = 5


CALM = Behaviour(works=1.0, returns=1.0)


@dataclass
class SimulatedHost:
    name: str
    rng: random.Random
    behaviour: Behaviour
    served: Served
    connected: bool = True
    loads: dict[str, int] = field(default_factory=dict)
    order: Order | None = None
    action: Action | None = None
    reported: Served = field(init=False)

    def __post_init__(self) -> None:
        self.reported = self.served

    def view(self) -> HostView:
        return HostView(
            self.name,
            reachable=self.connected,
            served=self.reported,
            order=self.order,
            trouble="" if self.connected else "it is away",
        )

    def take(self, action: Action, rollout: str, now: datetime) -> None:
        attempts = rules.attempt(action, rollout, self.order)
        sequence = self.order.sequence + 1 if self.order else 1
        self.action = action
        self.order = Order(
            self.name,
            sequence,
            MODEL,
            action.kind,
            action.version,
            rollout,
            OrderState.PENDING,
            now,
            attempts=attempts,
        )

    def tick(self, now: datetime) -> None:
        behaviour, chance = self.behaviour, self.rng.random
        if self.connected:
            self.connected = chance() >= behaviour.leaves
        else:
            self.connected = chance() < behaviour.returns
        if chance() < behaviour.loses_disk:
            self.served = Served(MODEL)
        if self.served.serving == NEW and chance() < behaviour.goes_back:
            self.served = Served(MODEL, self.served.standby, reason="too many errors")
        if self.connected and chance() < behaviour.works:
            self._work(now)
        if self.served.serving:
            statistics = self.served.statistics
            self.served = replace(
                self.served,
                healthy=True,
                statistics=Statistics(
                    self.served.serving,
                    requests=behaviour.traffic
                    + (statistics.requests if statistics.version == self.served.serving else 0),
                ),
            )
        if self.connected:
            self.reported = self.served

    def _work(self, now: datetime) -> None:
        if self.order is None or self.action is None or self.order.state is not OrderState.PENDING:
            return
        brings_new = self.action.version == NEW and self.action.kind in (
            OrderKind.STAGE,
            OrderKind.PROMOTE,
        )
        if brings_new and self.rng.random() < self.behaviour.refuses:
            self._answer(OrderState.FAILED, now, "Triton refuses to load it")
            return
        try:
            self.served = carry_out(self.action, self.served)
        except ValueError as error:
            self._answer(OrderState.FAILED, now, str(error))
        else:
            self._answer(OrderState.DONE, now)

    def _answer(self, state: OrderState, now: datetime, reason: str = "") -> None:
        assert self.order is not None
        self.order = replace(self.order, state=state, reason=reason, end_time=now)


def carry_out(action: Action, served: Served) -> Served:
    """What an agent does with an order; ValueError for what it has to refuse."""
    match action.kind:
        case OrderKind.STAGE:
            return replace(served, staged=action.version)
        case OrderKind.PROMOTE:
            if served.serving == action.version:
                return served
            if served.staged != action.version:
                raise ValueError(f"{action.version} is not staged")
            return Served(MODEL, action.version, served.serving)
        case OrderKind.FINISH:
            if served.serving != action.version:
                raise ValueError(f"{action.version} does not serve")
            return replace(served, standby="", staged=served.staged)
        case OrderKind.ROLL_BACK:
            if action.to_version in (served.serving, served.standby, ""):
                return Served(MODEL, action.to_version)
            # The way back is lost: the agent leaves the version as far as it can.
            staged = "" if served.staged == action.version else served.staged
            return replace(served, staged=staged)
        case OrderKind.REMOVE:
            return Served(MODEL)
    raise ValueError(f"no such order: {action.kind}")


@dataclass
class World:
    """The control plane in small: rollout, champion, hosts, time."""

    rollout: Rollout
    champion: str
    hosts: list[SimulatedHost]
    now: datetime = START
    history: list[Rollout] = field(default_factory=list)

    def views(self) -> dict[str, HostView]:
        return {host.name: host.view() for host in self.hosts}

    def tick(self) -> None:
        self.now += TICK
        for host in self.hosts:
            host.tick(self.now)
        self._plan()
        self._settle()

    def _plan(self) -> None:
        views = self.views()
        if self.rollout.state.ended:
            return
        for _ in range(100):
            plan = waves.plan("rollouts/r", self.rollout, views, self.now)
            if plan.rollout == self.rollout:
                break
            self._check(self.rollout, plan.rollout, views)
            self.rollout = plan.rollout
            self.history.append(self.rollout)
        else:
            raise AssertionError("the planner never comes to rest")
        if self.rollout.state is RolloutState.SUCCEEDED:
            self.champion = self.rollout.version
        self._issue(plan.actions, "rollouts/r")

    def _settle(self) -> None:
        free = [v for name, v in self.views().items() if not self.rollout.covers(name)]
        broken = {NEW} if self.rollout.state is RolloutState.ROLLED_BACK else set()
        if self.rollout.state is RolloutState.FAILED:
            broken = {NEW}
        self._issue(steady.settle(self.champion, free, broken=broken), "")

    def _issue(self, actions: tuple[Action, ...], rollout: str) -> None:
        hosts = {host.name: host for host in self.hosts}
        for action in actions:
            host = hosts[action.host]
            if rules.is_due(action, rollout, host.order, self.now):
                host.take(action, rollout, self.now)

    def _check(self, before: Rollout, after: Rollout, views: dict[str, HostView]) -> None:
        """The promises that must hold at every transition."""
        begun = {host.wave for host in after.hosts if host.stage is not Stage.WAITING}
        assert not begun or max(begun) <= after.wave, "a wave began before its time"
        if after.wave > before.wave > 0:
            for host in before.hosts:
                if host.wave <= before.wave:
                    assert host.stage is Stage.PROMOTED, "a wave began before the last one served"
            assert before.since is not None
            assert self.now - before.since >= before.strategy.bake, "a wave began without a bake"
        if after.state is RolloutState.SUCCEEDED:
            assert all(host.stage is Stage.DONE for host in after.hosts)
        going_back = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.FAILED)
        if before.state in going_back:
            assert after.state in going_back, "a halted rollout went forward again"

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    def calm_down(self) -> None:
        """From now on every host is there and does as it is told."""
        for host in self.hosts:
            host.behaviour = CALM
            host.connected = True
