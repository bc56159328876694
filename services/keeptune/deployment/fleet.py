"""Hosts as their agents describe them, and the orders they get: plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class HostState(StrEnum):
    CONNECTED = "CONNECTED"
    AWAY = "AWAY"


@dataclass(frozen=True)
class HostInfo:
    agent_version: str = ""
    triton_version: str = ""
    backends: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    agent_rss_bytes: int = 0
    triton_ready: bool = False


@dataclass(frozen=True)
class Statistics:
    """Counters of one served version since the agent or the version started."""

    version: str = ""
    requests: int = 0
    failures: int = 0
    mean_latency_ms: float = 0.0
    mean_queue_ms: float = 0.0
    sampled: int = 0
    dropped: int = 0
    outcomes: int = 0
    recent_accuracy: float | None = None
    drift_level: float = 0.0
    sampling_rate: float = 0.0
    captures_pending: int = 0


@dataclass(frozen=True)
class Served:
    """One model on one host. Versions are full names; "" = none."""

    model: str
    serving: str = ""
    standby: str = ""
    staged: str = ""
    statistics: Statistics = field(default_factory=Statistics)
    healthy: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The last thing that a host said of itself."""

    info: HostInfo = field(default_factory=HostInfo)
    models: tuple[Served, ...] = ()

    def of(self, model: str) -> Served:
        """What it serves of a model; an entry without versions when it named none."""
        return next((each for each in self.models if each.model == model), Served(model))


@dataclass(frozen=True)
class SignalNote:
    """A signal kept for people; `body` is the Signal message as protobuf JSON."""

    id: str
    body: str


@dataclass(frozen=True)
class Host:
    """What is kept of a host beside its last report."""

    state: HostState = HostState.CONNECTED
    reason: str = ""
    signals: tuple[SignalNote, ...] = ()

    def with_signal(self, signal: SignalNote, keep: int) -> tuple[SignalNote, ...]:
        """The newest `keep` signals; the same trouble keeps its id and is told once."""
        others = tuple(each for each in self.signals if each.id != signal.id)
        return (*others, signal)[-keep:]


class OrderKind(StrEnum):
    STAGE = "STAGE"
    PROMOTE = "PROMOTE"
    FINISH = "FINISH"
    ROLL_BACK = "ROLL_BACK"
    CONFIGURE = "CONFIGURE"
    REMOVE = "REMOVE"


class OrderState(StrEnum):
    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"
    # Something else was ordered before it was answered; never sent again.
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True)
class Order:
    """One order as it was given. `rollout` is "" for what no rollout asked for.

    `attempts` counts the tries at this version for this rollout, failed ones and this one;
    `end_time` is when the answer came.
    """

    host: str
    sequence: int
    model: str
    kind: OrderKind
    version: str
    rollout: str
    state: OrderState
    time: datetime
    reason: str = ""
    end_time: datetime | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Action:
    """Something that a host should do now; it becomes an order unless it is under way."""

    host: str
    kind: OrderKind
    version: str = ""
    to_version: str = ""
    reason: str = ""
    bake: timedelta = timedelta(0)


@dataclass(frozen=True)
class HostView:
    """One host as a planner sees it, for one model.

    `reachable`: it is connected and its Triton answers, so that `served` can be believed;
    else `trouble` says why not. `order` is the newest order about versions of this model.
    """

    name: str
    reachable: bool
    served: Served
    order: Order | None = None
    trouble: str = ""
