from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keeptune.agent import reconcile
from keeptune.agent.orders import OrderLedger, action_of
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import deployment_pb2 as pb

V2 = "models/m/versions/2"


def test_orders_become_actions() -> None:
    promote = pb.Order(promote=pb.PromoteVersion(version=V2))
    promote.promote.bake.FromTimedelta(timedelta(seconds=5))
    assert action_of(promote) == reconcile.Promote(2, 5.0)
    stage = pb.Order(stage=pb.StageVersion(version=pb.ModelVersion(name=V2)))
    assert action_of(stage) == reconcile.Stage(2)
    back = pb.RollBackVersion(version=V2, to_version="models/m/versions/1", reason="bad")
    assert action_of(pb.Order(roll_back=back)) == reconcile.RollBack(2, 1, "bad")
    none = pb.RollBackVersion(version=V2)
    assert action_of(pb.Order(roll_back=none)) == reconcile.RollBack(2, 0, "")
    assert action_of(pb.Order(finish=pb.FinishPromotion(version=V2))) == reconcile.Finish(2)
    assert action_of(pb.Order(configure=pb.ConfigureMonitoring())) == reconcile.Configure()
    assert action_of(pb.Order(remove=pb.RemoveModel())) == reconcile.Remove()


@pytest.mark.parametrize(
    "order",
    [
        pb.Order(),
        pb.Order(finish=pb.FinishPromotion(version="models/m")),
        pb.Order(finish=pb.FinishPromotion(version="models/../versions/1")),
        pb.Order(promote=pb.PromoteVersion()),
    ],
)
def test_orders_that_make_no_sense_are_refused(order: pb.Order) -> None:
    with pytest.raises(InvalidInput):
        action_of(order)


def test_answers_are_kept(tmp_path: Path) -> None:
    ledger = OrderLedger(tmp_path / "orders.json")
    order = pb.Order(id="o7", sequence=7)
    assert ledger.answer(order) is None
    result = pb.OrderResult(
        order_id="o7", sequence=7, state=pb.ORDER_STATE_FAILED, reason="it will not load"
    )
    ledger.put(result)
    again = OrderLedger(tmp_path / "orders.json")
    assert again.last_sequence == 7
    assert again.answer(order) == result
    assert again.answer(pb.Order(id="o8", sequence=8)) is None
    void = again.answer(pb.Order(id="o5", sequence=5))
    assert void is not None
    assert void.state == pb.ORDER_STATE_FAILED
