"""What a host has to do next, and whether it is time to say so. Pure.

A host is brought to a version by one action at a time, always derived from what it reported last:
nothing depends on remembering what was ordered before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from keeptune.deployment.fleet import Action, HostView, Order, OrderKind, OrderState, Served

# A done order whose effect the next report does not show is given again after this.
SETTLE = timedelta(seconds=5)
RETRY_FIRST = timedelta(seconds=5)
RETRY_LAST = timedelta(minutes=5)
_FORWARD = frozenset({OrderKind.STAGE, OrderKind.PROMOTE})


def bring_to(
    view: HostView, version: str, *, bake: timedelta = timedelta(0), reason: str = ""
) -> Action | None:
    """The next action on the way to serving `version` and nothing beside it; None = it does.

    The version that served before stays loaded until the last action, `FINISH`.
    """
    served = view.served
    if served.serving == version:
        if served.staged:
            return Action(view.name, OrderKind.ROLL_BACK, served.staged, version, reason)
        if served.standby:
            return Action(view.name, OrderKind.FINISH, version)
        return None
    if served.standby == version:
        # Still loaded: going back takes milliseconds.
        return Action(view.name, OrderKind.ROLL_BACK, served.serving, version, reason)
    return advance(view, version, bake=bake)


def advance(view: HostView, version: str, *, bake: timedelta = timedelta(0)) -> Action:
    """Stages `version`, or promotes it once it is staged."""
    if view.served.staged == version:
        return Action(view.name, OrderKind.PROMOTE, version, bake=bake)
    return Action(view.name, OrderKind.STAGE, version)


def leave(view: HostView, version: str, to_version: str, reason: str) -> Action | None:
    """The next action on the way from `version` back to `to_version` ("" = serve nothing)."""
    served = view.served
    if not holds(served, version):
        return bring_to(view, to_version) if to_version else None
    if served.serving != version or to_version in ("", served.standby):
        # Only staged or standing by, or with the way back still open.
        return Action(view.name, OrderKind.ROLL_BACK, version, to_version, reason)
    return bring_to(view, to_version, reason=reason)


def holds(served: Served, version: str) -> bool:
    """Whether the host has the version in any role."""
    return version in (served.serving, served.standby, served.staged)


def is_due(action: Action, rollout: str, order: Order | None, now: datetime) -> bool:
    """Whether an action has to be ordered (anew), given the newest order about the model.

    `rollout` is who wants it. What another one ordered neither counts as done nor holds it up.
    """
    if order is None or order.rollout != rollout or order.version != action.version:
        return True
    if order.state is OrderState.FAILED and {order.kind, action.kind} <= _FORWARD:
        # Staging anew what was refused when promoted would come to the same.
        return now - (order.end_time or order.time) >= retry_after(order.attempts)
    if order.kind is not action.kind:
        return True
    match order.state:
        case OrderState.PENDING:
            return False
        case OrderState.SUPERSEDED:
            return True
        case OrderState.DONE:
            return now - (order.end_time or order.time) >= SETTLE
        case OrderState.FAILED:
            return now - (order.end_time or order.time) >= retry_after(order.attempts)


def attempt(action: Action, rollout: str, order: Order | None) -> int:
    """Which try at bringing this version in, or away, an order for the action would be."""
    if order is None or (order.rollout, order.version) != (rollout, action.version):
        return 1
    return order.attempts + (order.state is OrderState.FAILED)


def retry_after(attempts: int) -> timedelta:
    """Doubles from 5 s to 5 min."""
    return min(RETRY_LAST, RETRY_FIRST * (1 << min(attempts - 1, 10)))


def under_way(view: HostView, version: str) -> bool:
    """Whether the host may still be bringing `version` in: its order is not answered."""
    order = view.order
    return (
        order is not None
        and order.state is OrderState.PENDING
        and order.version == version
        and order.kind in _FORWARD
    )
