"""The host's processes are shared in turn, and never given out twice."""

from __future__ import annotations

from keeptune.training.allocation import Demand, Host, allocate, device
from keeptune.training.model import Resources

ONE = Resources()


def test_places_go_round_in_turn() -> None:
    demands = [Demand("a", 8, ONE), Demand("b", 1, ONE), Demand("c", 8, ONE)]
    assert allocate(Host(4), demands) == {"a": 2, "b": 1, "c": 1}


def test_older_trainings_come_first() -> None:
    assert allocate(Host(1), [Demand("a", 2, ONE), Demand("b", 2, ONE)]) == {"a": 1, "b": 0}


def test_a_place_is_free_only_when_its_worker_has_ended() -> None:
    busy = [Demand("a", 2, ONE, working=2), Demand("b", 2, ONE)]
    assert allocate(Host(2), busy) == {"a": 1, "b": 0}
    later = [Demand("a", 2, ONE, working=1), Demand("b", 2, ONE)]
    assert allocate(Host(2), later) == {"a": 1, "b": 1}


def test_nothing_starts_while_a_training_pauses() -> None:
    demand = Demand("a", 2, ONE, working=1, may_start=False)
    assert allocate(Host(2), [demand]) == {"a": 1}


def test_many_cores_take_many_places_but_always_start() -> None:
    wide = Resources(cpu=3)
    assert allocate(Host(4), [Demand("a", 4, wide)]) == {"a": 1}
    assert allocate(Host(2), [Demand("a", 4, wide)]) == {"a": 1}


def test_gpus_are_shared_by_the_third() -> None:
    third = Resources(gpu=1 / 3)
    host = Host(workers=16, gpus=2)
    assert allocate(host, [Demand("a", 16, third)]) == {"a": 6}
    assert [device(index, third, host) for index in range(6)] == ["cuda:0"] * 3 + ["cuda:1"] * 3
    assert device(5, ONE, host) == "cpu"
