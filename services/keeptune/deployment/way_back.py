"""The way back of a halted rollout, on every host that it touched. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from keeptune.deployment import orders
from keeptune.deployment.fleet import Action, HostView, OrderKind
from keeptune.deployment.progress import is_late, trouble
from keeptune.deployment.rollout import Plan, Rollout, RolloutState, Stage


def back(rollout: Rollout, hosts: Mapping[str, HostView], now: datetime) -> Plan:
    """Brings every touched host to what served before.

    Ends once each is there or has had the time of a stage; who comes later is settled then (see
    `steady`), so that no host is left on a broken version.
    """
    given_up = is_late(rollout, rollout.since, now)
    settled = []
    actions = []
    for host in rollout.hosts:
        view = hosts.get(host.host)
        if host.settled or host.stage is Stage.WAITING:
            settled.append(replace(host, settled=True))
            continue
        action = _way_back(rollout, view)
        if action is None and _is_reachable(view):
            stage = Stage.FAILED if host.stage is Stage.FAILED else Stage.ROLLED_BACK
            reason = host.reason or rollout.halt_reason
            settled.append(replace(host.enter(stage, now, reason), settled=True))
        elif given_up:
            why = f"could not be brought back in time ({trouble(view)}); it is tried on"
            settled.append(replace(host.enter(Stage.FAILED, now, why), settled=True, stuck=True))
        else:
            settled.append(host)
            # To a host that is away only the way back is ordered: it finds it when it returns.
            if action is not None and (_is_reachable(view) or action.kind is OrderKind.ROLL_BACK):
                actions.append(action)
    rollout = replace(rollout, hosts=tuple(settled))
    if all(host.settled for host in settled):
        return Plan(_ended_back(rollout, now))
    return Plan(rollout, tuple(actions))


def _way_back(rollout: Rollout, view: HostView | None) -> Action | None:
    if view is None:
        return None
    if orders.under_way(view, rollout.version):
        # It may still be bringing the version in: what it serves now proves nothing.
        return Action(
            view.name,
            OrderKind.ROLL_BACK,
            rollout.version,
            rollout.previous,
            rollout.halt_reason,
        )
    return orders.leave(view, rollout.version, rollout.previous, rollout.halt_reason)


def _ended_back(rollout: Rollout, now: datetime) -> Rollout:
    back = rollout.previous or "nothing, as before"
    stuck = [host.host for host in rollout.hosts if host.stuck]
    if stuck:
        return rollout.end(
            RolloutState.FAILED,
            now,
            f"{rollout.halt_reason}; {', '.join(stuck)} could not be brought back in time",
            "look at these hosts; each goes back as soon as its agent answers",
        )
    return rollout.end(
        RolloutState.ROLLED_BACK,
        now,
        f"{rollout.halt_reason}; {back} serves",
        "mend the cause, then register and roll out a new version",
    )


def _is_reachable(view: HostView | None) -> bool:
    return view is not None and view.reachable
