"""What the optimisers that learn are made of: densities, rankings, networks, mutations, tables."""

from __future__ import annotations

import numpy as np
import pytest

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.coordinates import Coordinates
from keeptune.search.optimizers.networks import Adam, Network
from keeptune.search.optimizers.parzen import Parzen
from keeptune.search.optimizers.q_learning import Table
from keeptune.search.optimizers.regularized_evolution import mutated
from keeptune.search.optimizers.standing import Standing, order
from keeptune.search.optimizers.trials import Trials
from keeptune.search.space import Condition, Parameter, SearchSpace
from tests.unit.search.spaces import INTEGERS, MIXED, NUMERIC

BRANCHES = SearchSpace(
    (
        Parameter("kind", Categories(("a", "b"))),
        Parameter("x", FloatRange(0.0, 1.0), (Condition("kind", ("a",)),)),
        Parameter("y", FloatRange(0.0, 1.0), (Condition("kind", ("b",)),)),
    )
)


def result(number: int, *losses: float, broken: tuple[float, ...] = ()) -> Result:
    return Result(number, {}, Outcome.MEASURED, losses, broken)


def test_rows_lead_back_to_their_points() -> None:
    coordinates = Coordinates(MIXED)
    rng = np.random.default_rng(1)
    for _ in range(50):
        point = MIXED.at({p.name: rng.random() for p in MIXED.free})
        again = coordinates.values(np.nan_to_num(coordinates.row(point), nan=0.5))
        assert again.keys() == point.keys()
        assert all(again[name] == pytest.approx(value) for name, value in point.items())


def test_a_density_integrates_to_one() -> None:
    coordinates = Coordinates(NUMERIC)
    density = Parzen(coordinates, np.array([[0.02, 0.5], [0.9, 0.99]]))
    middles = (np.arange(200) + 0.5) / 200
    grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    assert np.exp(density.log_density(grid)).mean() == pytest.approx(1.0, abs=1e-3)


def test_a_density_sums_over_branches_to_one() -> None:
    points = [{"kind": "a", "x": 0.3}, {"kind": "a", "x": 0.35}, {"kind": "b", "y": 0.8}]
    coordinates = Coordinates(BRANCHES)
    density = Parzen(coordinates, coordinates.rows(points))
    middles = (np.arange(500) + 0.5) / 500
    of_a = np.array([[0.0, x, np.nan] for x in middles])
    of_b = np.array([[1.0, np.nan, y] for y in middles])
    masses = [np.exp(density.log_density(rows)).mean() for rows in (of_a, of_b)]
    assert sum(masses) == pytest.approx(1.0, abs=1e-3)
    assert masses[0] > masses[1]
    # What one branch has shown says nothing about the other's parameter.
    peak = of_b[np.argmax(density.log_density(of_b)), 2]
    assert peak == pytest.approx(0.8, abs=0.05)


def test_samples_follow_the_density() -> None:
    coordinates = Coordinates(NUMERIC)
    density = Parzen(coordinates, np.array([[0.1, 0.8]] * 30))
    rows = density.sample(4000, np.random.default_rng(0))
    assert ((rows >= 0) & (rows <= 1)).all()
    inside = (np.abs(rows - [0.1, 0.8]) < 0.1).all(axis=1).mean()
    middles = (np.arange(100) + 0.5) / 100
    grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    near = (np.abs(grid - [0.1, 0.8]) < 0.1).all(axis=1)
    mass = (np.exp(density.log_density(grid)) * near).mean()
    assert inside == pytest.approx(mass, abs=0.03)


def test_results_are_ranked_feasible_first() -> None:
    results = [
        result(1, 5.0),
        Result(2, {}, Outcome.INFEASIBLE),
        result(3, 0.0, broken=(2.0, -1.0)),
        result(4, 1.0, broken=(0.5, 0.5)),
        result(5, 3.0, broken=(0.0, -1.0)),
        result(6, float("nan")),
    ]
    assert [results[i].number for i in order(results)] == [5, 1, 4, 3, 2, 6]


def test_several_objectives_are_ranked_by_fronts_and_room() -> None:
    front = [(0.0, 4.0), (1.0, 2.9), (1.1, 2.8), (4.0, 0.0)]
    worse = [(1.2, 3.0), (5.0, 5.0)]
    results = [result(i, *losses) for i, losses in enumerate([*worse, *front])]
    ranked = [results[i].losses for i in order(results)]
    # Of a front its ends first, and those last that have near neighbours.
    assert ranked[:2] == [(0.0, 4.0), (4.0, 0.0)]
    assert set(ranked[2:4]) == {(1.0, 2.9), (1.1, 2.8)}
    assert ranked[4:] == worse


def test_of_a_long_history_the_best_and_the_latest_stay() -> None:
    standing = Standing(limit=100)
    losses = np.random.default_rng(0).random(1000).tolist()
    for number, loss in enumerate(losses):
        standing.add(result(number, loss))
    assert len(standing.told) <= 100
    assert standing.count == 1000
    best = [each.losses[0] for each in standing.ranked[:10]]
    assert best == sorted(losses)[:10]
    assert standing.told[-1].number == 999


def test_gradients_are_those_of_differences() -> None:
    rng = np.random.default_rng(3)
    network = Network(4, 7, 3, rng)
    network.weights = rng.standard_normal(len(network.weights))
    x, aim = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    gradient = network.gradient(x, network(x) - aim)
    for i in rng.integers(len(gradient), size=25):
        sides = []
        for step in (1e-5, -1e-5):
            network.weights[i] += step
            sides.append(0.5 * ((network(x) - aim) ** 2).sum())
            network.weights[i] -= step
        assert gradient[i] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_adam_fits_a_network() -> None:
    rng = np.random.default_rng(0)
    network = Network(1, 16, 1, rng)
    step = Adam(len(network.weights), 1e-2)
    x = np.linspace(-1, 1, 50)[:, None]
    aim = np.sin(3 * x)
    for _ in range(500):
        network.weights += step.step(network.gradient(x, (network(x) - aim) / len(x)))
    assert ((network(x) - aim) ** 2).mean() < 0.01


def test_what_was_tried_is_known_in_any_order_of_its_parameters() -> None:
    trials = Trials(INTEGERS)
    trials.tell(Result(-1, {"n": 5, "m": 3}, Outcome.MEASURED, (1.0,)))
    assert not trials.is_new({"m": 3, "n": 5})
    assert trials.is_new({"m": 5, "n": 3})
    endless = Trials(NUMERIC)
    endless.ask(1, {"x": 0.5, "y": 2.0})
    assert endless.is_new({"x": 0.5, "y": 2.0})


def test_a_mutation_changes_one_parameter_and_what_hangs_on_it() -> None:
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(300):
        parent = MIXED.at({p.name: rng.random() for p in MIXED.free})
        name, child = mutated(MIXED, parent, rng)
        assert MIXED.problem_with(child) is None
        assert child[name] != parent[name]
        changed = {n for n in parent.keys() & child.keys() if parent[n] != child[n]}
        assert changed == {name}
        seen.add(name)
    assert seen == {p.name for p in MIXED.free}


def test_the_old_die_however_good_they_are() -> None:
    optimizer = registry.make("regularized-evolution", Problem(INTEGERS, 1, trials=25))
    parameters = []
    for number in range(1, 26):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        parameters.append(answer)
        # The first five, the population, are good ones, and never found again.
        loss = 0.0 if number <= 5 else 1.0
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (loss,)))
    parents = [int(each.because.split()[4].rstrip(",")) for each in parameters[5:]]
    assert all(number - 5 <= parent < number for number, parent in enumerate(parents, start=6))


def test_a_table_knows_its_steps() -> None:
    rng = np.random.default_rng(0)
    levels = Table(Parameter("n", IntRange(0, 9)), parts=5)
    assert levels.actions(levels.place(0)) == [1, 2, 3]
    assert levels.actions(levels.place(9)) == [0, 1, 2]
    assert levels.action(4, 4) is None
    for value in range(10):
        for action in levels.actions(levels.place(value)):
            end = levels.changed(value, action, rng)
            if end != value:
                assert (end < value) == (action < 2)
    kinds = Table(Parameter("k", Categories(("a", "b", "c"))), parts=5)
    assert kinds.actions(1) == [0, 2]
    assert [kinds.changed("b", action, rng) for action in (0, 2)] == ["a", "c"]
    assert kinds.action("b", "c") == 2
