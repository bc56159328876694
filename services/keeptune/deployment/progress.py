"""Where each host of a rollout stands, by its own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from keeptune.deployment.fleet import HostView, OrderKind, OrderState, Served
from keeptune.deployment.rollout import HostProgress, Rollout, Stage

# How often a host that lost its disk is begun anew before it counts as failed.
MAX_STARTS = 3
_SERVES = (Stage.PROMOTED, Stage.DONE)


def observe(
    name: str,
    rollout: Rollout,
    hosts: Mapping[str, HostView],
    now: datetime,
    *,
    timeouts: bool,
) -> Rollout:
    """The rollout with every host's stage as the host's own words have it."""
    return replace(
        rollout,
        hosts=tuple(
            _observe_host(name, rollout, host, hosts.get(host.host), now, timeouts=timeouts)
            for host in rollout.hosts
        ),
    )


def _observe_host(
    name: str,
    rollout: Rollout,
    host: HostProgress,
    view: HostView | None,
    now: datetime,
    *,
    timeouts: bool,
) -> HostProgress:
    if host.stage not in (Stage.STAGING, *_SERVES):
        return host
    refusal = _refusal(name, rollout, view)
    if refusal:
        stage = Stage.FAILED if host.stage is Stage.STAGING else Stage.ROLLED_BACK
        return host.enter(stage, now, refusal)
    if view is not None and view.reachable:
        if view.served.serving == rollout.version:
            return _count(host, view.served, now)
        if host.stage in _SERVES:
            return _lost(host, view.served, now)
    if host.stage is Stage.STAGING and timeouts and is_late(rollout, host.stage_time, now):
        seconds = rollout.strategy.stage_timeout.total_seconds()
        why = f"; {trouble(view)}" if view is None or not view.reachable else ""
        return host.enter(Stage.FAILED, now, f"does not serve after {seconds:g} s{why}")
    return host


def _refusal(name: str, rollout: Rollout, view: HostView | None) -> str:
    """Why the host says that it could not bring the version in, or would not keep it."""
    order = view.order if view is not None else None
    if (
        order is None
        or order.rollout != name
        or order.version != rollout.version
        or order.state is not OrderState.FAILED
        or order.kind not in (OrderKind.STAGE, OrderKind.PROMOTE)
    ):
        return ""
    return order.reason or f"refused to {order.kind.lower()} {rollout.version}"


def _lost(host: HostProgress, served: Served, now: datetime) -> HostProgress:
    """A host that served the new version and does so no more."""
    if not served.serving and not served.reason and host.starts < MAX_STARTS:
        # It serves nothing and blames nothing: a fresh disk, not a verdict on the version.
        return replace(
            host.enter(Stage.STAGING, now, "served nothing any more; begun anew"),
            starts=host.starts + 1,
        )
    why = served.reason or f"serves {served.serving or 'nothing'}"
    return host.enter(Stage.ROLLED_BACK, now, f"went back by itself: {why}")


def _count(host: HostProgress, served: Served, now: datetime) -> HostProgress:
    """The host as serving the new version, with what that has served so far."""
    if host.stage is Stage.STAGING:
        # A host's counters of a version start with the version.
        host = replace(host.enter(Stage.PROMOTED, now), counted=(0, 0))
    statistics = served.statistics
    if statistics.version != served.serving:
        return host
    current = (statistics.requests, statistics.failures)
    requests, failures = (
        new - old if new >= old else new for new, old in zip(current, host.counted, strict=True)
    )
    return replace(
        host,
        requests=host.requests + requests,
        failures=host.failures + failures,
        counted=current,
    )


def is_late(rollout: Rollout, since: datetime | None, now: datetime) -> bool:
    """Whether what began at `since` has had its stage's time."""
    return since is not None and now - since > rollout.strategy.stage_timeout


def trouble(view: HostView | None) -> str:
    """Why nothing happens on a host."""
    if view is None:
        return "it is not known any more"
    if view.trouble:
        return view.trouble
    if view.order is not None and view.order.state is OrderState.FAILED:
        return view.order.reason or "it refused"
    return "it has not answered"
