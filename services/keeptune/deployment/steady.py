"""What hosts do about a model while no rollout speaks for them: serve the champion. Pure.

A host that comes back with a fresh disk, that was away during a rollout, or that is new, is
brought to the champion here; one that holds a version which was rolled back loses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from keeptune.deployment import orders
from keeptune.deployment.fleet import Action, HostView, OrderKind


def settle(
    champion: str, hosts: Iterable[HostView], *, broken: Collection[str]
) -> tuple[Action, ...]:
    """The next action of each matching host. `broken` are versions that were rolled back.

    Without a champion only broken versions are taken away: what else a host serves under the
    model's name was not put there by this registry, and is left alone.
    """
    actions = []
    for view in hosts:
        if not view.reachable:
            continue
        action = orders.bring_to(view, champion) if champion else _without_champion(view, broken)
        if action is not None:
            actions.append(action)
    return tuple(actions)


def remove(hosts: Iterable[HostView]) -> tuple[Action, ...]:
    """Takes the model away from hosts that do not match it (any more)."""
    return tuple(
        Action(view.name, OrderKind.REMOVE)
        for view in hosts
        if view.reachable and (view.served.serving or view.served.standby or view.served.staged)
    )


def _without_champion(view: HostView, broken: Collection[str]) -> Action | None:
    for version in (view.served.serving, view.served.staged, view.served.standby):
        if version in broken:
            return orders.leave(view, version, "", "its rollout was rolled back")
    return None
