"""When an action is ordered, and when it is not ordered again."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keeptune.deployment import orders
from keeptune.deployment.fleet import Action, HostView, Order, OrderKind, OrderState, Served
from tests.unit.deployment.fleet_simulation import MODEL, NEW, OLD, START

PROMOTE = Action("hosts/a", OrderKind.PROMOTE, NEW)
PENDING = Order(
    "hosts/a", 1, MODEL, OrderKind.PROMOTE, NEW, "rollouts/r", OrderState.PENDING, START
)


def ended(state: OrderState, attempts: int = 1) -> Order:
    return replace(PENDING, state=state, end_time=START, attempts=attempts)


def due(order: Order | None, seconds: float = 0, action: Action = PROMOTE) -> bool:
    return orders.is_due(action, "rollouts/r", order, START + timedelta(seconds=seconds))


def test_what_is_under_way_is_not_ordered_again() -> None:
    assert due(None)
    assert not due(PENDING, 10_000)


def test_something_else_is_ordered_at_once() -> None:
    assert due(PENDING, action=replace(PROMOTE, version=OLD))
    assert due(PENDING, action=replace(PROMOTE, kind=OrderKind.ROLL_BACK))
    assert orders.is_due(PROMOTE, "", PENDING, START), "another one's order is not ours"


def test_what_was_done_and_does_not_show_is_ordered_again_after_a_while() -> None:
    assert not due(ended(OrderState.DONE), 4.9)
    assert due(ended(OrderState.DONE), 5)
    assert due(ended(OrderState.SUPERSEDED))


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 5), (2, 10), (4, 40), (9, 300), (99, 300)])
def test_what_failed_waits_longer_each_time(attempts: int, seconds: float) -> None:
    failed = ended(OrderState.FAILED, attempts)
    assert not due(failed, seconds - 0.1)
    assert due(failed, seconds)


def test_staging_anew_what_could_not_be_promoted_waits_too() -> None:
    stage = Action("hosts/a", OrderKind.STAGE, NEW)
    assert not due(ended(OrderState.FAILED), 4.9, stage)
    assert orders.attempt(stage, "rollouts/r", ended(OrderState.FAILED, 3)) == 4
    assert orders.attempt(stage, "rollouts/r", ended(OrderState.DONE, 3)) == 3
    assert orders.attempt(stage, "rollouts/other", ended(OrderState.FAILED, 3)) == 1


@pytest.mark.parametrize(
    ("served", "wanted"),
    [
        (Served(MODEL), (OrderKind.STAGE, NEW)),
        (Served(MODEL, OLD), (OrderKind.STAGE, NEW)),
        (Served(MODEL, OLD, staged=NEW), (OrderKind.PROMOTE, NEW)),
        (Served(MODEL, OLD, standby=NEW), (OrderKind.ROLL_BACK, OLD)),
        (Served(MODEL, NEW, standby=OLD), (OrderKind.FINISH, NEW)),
        (Served(MODEL, NEW, staged=OLD), (OrderKind.ROLL_BACK, OLD)),
        (Served(MODEL, NEW), None),
    ],
)
def test_each_state_has_one_next_action(
    served: Served, wanted: tuple[OrderKind, str] | None
) -> None:
    action = orders.bring_to(HostView("hosts/a", True, served), NEW)
    assert (action and (action.kind, action.version)) == wanted


@pytest.mark.parametrize(
    ("served", "to", "wanted"),
    [
        (Served(MODEL, NEW, standby=OLD), OLD, (OrderKind.ROLL_BACK, NEW)),
        (Served(MODEL, OLD, staged=NEW), OLD, (OrderKind.ROLL_BACK, NEW)),
        (Served(MODEL, OLD, standby=NEW), OLD, (OrderKind.ROLL_BACK, NEW)),
        (Served(MODEL, NEW), "", (OrderKind.ROLL_BACK, NEW)),
        (Served(MODEL, NEW), OLD, (OrderKind.STAGE, OLD)),
        (Served(MODEL, NEW, staged=OLD), OLD, (OrderKind.PROMOTE, OLD)),
        (Served(MODEL), OLD, (OrderKind.STAGE, OLD)),
        (Served(MODEL, OLD), OLD, None),
        (Served(MODEL), "", None),
    ],
)
def test_each_state_has_one_way_back(
    served: Served, to: str, wanted: tuple[OrderKind, str] | None
) -> None:
    action = orders.leave(HostView("hosts/a", True, served), NEW, to, "bad")
    assert (action and (action.kind, action.version)) == wanted
