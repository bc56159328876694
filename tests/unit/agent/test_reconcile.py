from __future__ import annotations

from dataclasses import replace

import pytest

from keeptune.agent import reconcile as r
from keeptune.agent.host_store import Bake
from keeptune.agent.reconcile import ModelOnHost, reconcile
from keeptune.runtime.errors import FailedPrecondition

EMPTY = ModelOnHost()
SERVES_1 = ModelOnHost(serving=1, on_disk=(1,), loaded=(1,))
STAGED_2 = replace(SERVES_1, staged=2)
BAKING_2 = ModelOnHost(
    serving=2, standby=1, on_disk=(1, 2), loaded=(1, 2), bake=Bake(2, 1, 0.0, 60.0)
)
SERVES_2 = ModelOnHost(serving=2, on_disk=(2,), loaded=(2,))


def kinds(action: r.Action, actual: ModelOnHost) -> list[str]:
    return [type(step).__name__ for step in reconcile(action, actual)]


def test_the_way_of_a_version() -> None:
    assert kinds(r.Stage(2), SERVES_1) == [
        "FetchVersion", "StageChallenger", "ProbeChallenger", "KeepMonitoring",
    ]  # fmt: skip
    assert reconcile(r.Promote(2, 60.0), STAGED_2) == (
        r.BeginBake(2, 1, 60.0),
        r.InstallChallenger(2),
        r.ProbeServing(2),
        r.DiscardChallenger(),
    )
    assert reconcile(r.Finish(2), BAKING_2) == (
        r.ServeOnly(2), r.RemoveVersion(1), r.EndBake(),
    )  # fmt: skip


def test_an_order_that_comes_again_does_nothing_new() -> None:
    assert kinds(r.Stage(1), SERVES_1) == ["KeepMonitoring"]
    assert "StageChallenger" not in kinds(r.Stage(2), STAGED_2)
    # The bake that runs is not begun anew.
    assert reconcile(r.Promote(2, 60.0), BAKING_2) == (r.ProbeServing(2),)
    assert reconcile(r.Finish(2), SERVES_2) == (r.EndBake(),)
    assert reconcile(r.RollBack(2, 1, "bad"), SERVES_1) == (r.EndBake("bad"),)
    assert reconcile(r.RollBack(2, 0, "bad"), EMPTY) == ()


def test_a_promotion_that_was_killed_goes_on() -> None:
    # Installed, not yet tidied up.
    killed = replace(BAKING_2, staged=2)
    assert reconcile(r.Promote(2, 60.0), killed) == (r.ProbeServing(2), r.DiscardChallenger())
    # Installed by somebody who wrote no bake: it is watched from now on.
    unwatched = replace(BAKING_2, bake=None)
    assert reconcile(r.Promote(2, 60.0), unwatched)[0] == r.BeginBake(2, 1, 60.0)


def test_a_first_version_has_no_way_back() -> None:
    staged = ModelOnHost(staged=1)
    assert reconcile(r.Promote(1, 5.0), staged)[:2] == (
        r.BeginBake(1, 0, 5.0), r.InstallChallenger(1),
    )  # fmt: skip
    assert kinds(
        r.RollBack(1, 0, "bad"), replace(staged, serving=1, on_disk=(1,), loaded=(1,))
    ) == ["RemoveModel"]


def test_a_lower_number_is_served_alone_because_triton_takes_the_highest() -> None:
    staged = ModelOnHost(serving=3, staged=2, on_disk=(3,), loaded=(3,))
    steps = reconcile(r.Promote(2, 5.0), staged)
    assert steps[1:3] == (r.InstallChallenger(2), r.ServeOnly(2))


def test_going_back_serves_the_old_one_before_the_new_is_gone() -> None:
    assert reconcile(r.RollBack(2, 1, "bad"), BAKING_2) == (
        r.ServeOnly(1), r.EndBake("bad"), r.RemoveVersion(2),
    )  # fmt: skip
    # Only staged: the champion is not touched.
    assert reconcile(r.RollBack(2, 1, "bad"), STAGED_2) == (
        r.EndBake("bad"), r.DiscardChallenger(),
    )  # fmt: skip


def test_going_back_to_nothing_keeps_what_else_serves() -> None:
    assert reconcile(r.RollBack(2, 0, "bad"), BAKING_2)[0] == r.ServeOnly(1)
    assert reconcile(r.RollBack(2, 0, "bad"), ModelOnHost(staged=2)) == (r.RemoveModel(),)


@pytest.mark.parametrize(
    ("action", "actual", "reason"),
    [
        (r.Promote(2, 1.0), SERVES_1, "NOT_STAGED"),
        (r.Finish(2), SERVES_1, "NOT_SERVING"),
        (r.RollBack(2, 1, ""), SERVES_2, "NO_WAY_BACK"),
    ],
)
def test_orders_that_do_not_fit_are_refused(
    action: r.Action, actual: ModelOnHost, reason: str
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        reconcile(action, actual)
    assert caught.value.reason == reason


def test_other_orders() -> None:
    assert kinds(r.Configure(), SERVES_1) == ["KeepMonitoring"]
    assert kinds(r.Remove(), SERVES_1) == ["RemoveModel"]
