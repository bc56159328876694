"""Forests, and what is said of them, on functions whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.insight import forest, wording
from keeptune.search.insight.cube import Cube, Floats
from keeptune.search.insight.dependence import dependence
from keeptune.search.insight.forest import Forest
from keeptune.search.insight.importance import Importance, Share, importance
from keeptune.search.space import Assignment, Condition, Parameter, SearchSpace

Function = Callable[[Assignment], float]


def floats(count: int) -> SearchSpace:
    return SearchSpace(tuple(Parameter(f"x{i}", FloatRange(0.0, 1.0)) for i in range(count)))


MIXED = SearchSpace(
    (
        Parameter("rate", FloatRange(1e-4, 1.0, log=True)),
        Parameter("depth", IntRange(1, 5)),
        Parameter("kind", Categories(("a", "b", "c", "d"))),
        Parameter("idle", Categories((True, False))),
    )
)
BRANCHED = SearchSpace(
    (
        Parameter("kind", Categories(("small", "large"))),
        Parameter("width", FloatRange(0.0, 1.0), (Condition(parent="kind", values=("large",)),)),
        Parameter("idle", FloatRange(0.0, 1.0)),
    )
)


def trials(space: SearchSpace, count: int, seed: int) -> list[Assignment]:
    rng = np.random.default_rng(seed)
    names = [parameter.name for parameter in space.free]
    return [space.at(dict(zip(names, rng.random(len(names)), strict=True))) for _ in range(count)]


def fitted(
    space: SearchSpace, function: Function, count: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[Cube, Floats, Forest]:
    cube = Cube(space)
    tried = trials(space, count, seed)
    rng = np.random.default_rng(seed + 1)
    values = np.array([function(each) for each in tried]) + noise * rng.normal(size=count)
    points = cube.points(tried)
    return cube, points, forest.fit(cube, points, values, rng)


def found(
    space: SearchSpace, function: Function, count: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[dict[str, Share], dict[tuple[str, ...], Share], Forest]:
    cube, points, made = fitted(space, function, count, noise=noise, seed=seed)
    shares: Importance = importance(cube, points, made, np.random.default_rng(seed + 2))
    values = [share.value for share in shares.main]
    assert values == sorted(values, reverse=True)
    for share in (*shares.main, *shares.interactions):
        assert 0.0 <= share.low <= share.value <= share.high <= 1.0
    return (
        {share.parameters[0]: share for share in shares.main},
        {share.parameters: share for share in shares.interactions},
        made,
    )


def linear(values: Assignment) -> float:
    return 10 * float(values["x0"]) + float(values["x1"])


def test_a_linear_function_has_the_shares_of_its_squared_slopes() -> None:
    main, pairs, made = found(floats(5), linear, 200)
    assert main["x0"].value == pytest.approx(100 / 101, abs=0.01)
    assert main["x1"].value == pytest.approx(1 / 101, abs=0.005)
    assert main["x1"].low <= 1 / 101 <= main["x1"].high
    assert [*main][:2] == ["x0", "x1"]
    assert all(main[name].value < 0.001 for name in ("x2", "x3", "x4"))
    assert all(share.value < 0.01 for share in pairs.values())
    assert made.r_squared > 0.98
    assert "most" in wording.remark(made)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """80 % intervals, with noise as large as a third of the signal's deviation."""
    truth = {"x0": 9 / 14, "x1": 4 / 14, "x2": 1 / 14, "x3": 0.0}

    def slopes(values: Assignment) -> float:
        return sum(slope * float(values[f"x{i}"]) for i, slope in enumerate((3, 2, 1)))

    covered = []
    for seed in range(8):
        main, _, _ = found(floats(4), slopes, 60, noise=0.35, seed=seed)
        covered += [
            main[name].low - 0.003 <= share <= main[name].high + 0.003
            for name, share in truth.items()
        ]
    assert np.mean(covered) >= 0.7
    assert max(main[name].high - main[name].low for name in truth) < 0.7


def test_an_interaction_is_told_from_main_effects() -> None:
    def product(values: Assignment) -> float:
        return (float(values["x0"]) - 0.5) * (float(values["x1"]) - 0.5) + 0.2 * float(values["x2"])

    main, pairs, _ = found(floats(3), product, 400)
    # Variances: 1/144 for the product, 0.04/12 for the slope.
    assert pairs["x0", "x1"].value == pytest.approx(144**-1 / (144**-1 + 0.04 / 12), abs=0.15)
    assert main["x2"].value == pytest.approx(0.3243, abs=0.15)
    assert main["x0"].value + main["x1"].value < 0.1
    assert max(pairs.values(), key=lambda share: share.value).parameters == ("x0", "x1")


def test_logarithms_integers_and_categories_count_alike() -> None:
    def mixed(values: Assignment) -> float:
        kind = {"a": 0.0, "b": 3.0, "c": 0.0, "d": 3.0}[str(values["kind"])]
        return kind + float(np.log10(float(values["rate"]))) + float(values["depth"])

    main, _, _ = found(MIXED, mixed, 300)
    total = 9 / 4 + 16 / 12 + 2
    assert main["kind"].value == pytest.approx(9 / 4 / total, abs=0.06)
    assert main["rate"].value == pytest.approx(16 / 12 / total, abs=0.06)
    assert main["depth"].value == pytest.approx(2 / total, abs=0.06)
    assert main["idle"].value < 0.01


def test_that_a_parameter_is_active_counts_for_its_parent() -> None:
    def branched(values: Assignment) -> float:
        return 1.0 + 0.5 * float(values["width"]) if values["kind"] == "large" else 0.0

    main, pairs, _ = found(BRANCHED, branched, 300)
    # Half of the space has a width: with z = 0 or 1, z (1 + w/2) has variance 25/64 + 1/96.
    total = 25 / 64 + 1 / 96
    assert main["kind"].value == pytest.approx(25 / 64 / total, abs=0.02)
    assert main["width"].value == pytest.approx(1 / 192 / total, abs=0.01)
    assert pairs["kind", "width"].value == pytest.approx(1 / 192 / total, abs=0.01)
    assert main["idle"].value < 0.005


def test_noise_is_owned_up_to() -> None:
    main, _, made = found(floats(3), lambda _: 0.0, 60, noise=1.0)
    assert made.r_squared < 0.1
    assert "do not rely" in wording.remark(made)
    assert all(share.low < 0.3 and share.high - share.low > 0.2 for share in main.values())


def test_the_same_trials_give_the_same_answer() -> None:
    assert found(floats(3), linear, 40)[0] == found(floats(3), linear, 40)[0]


def test_dependence_follows_the_function_on_the_parameters_own_scale() -> None:
    def mixed(values: Assignment) -> float:
        kind = {"a": 0.0, "b": 3.0, "c": 0.0, "d": 1.0}[str(values["kind"])]
        return kind + 2 * float(np.log10(float(values["rate"])))

    cube, _, made = fitted(MIXED, mixed, 300)
    curve = dependence(cube, made, ["rate"], 5)
    assert curve.axes[0].values == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1, 1.0))
    assert curve.mean == pytest.approx(1.0 + 2 * np.arange(-4, 1), abs=0.8)
    assert np.all(curve.low <= curve.mean) and np.all(curve.mean <= curve.high)
    kinds = dependence(cube, made, ["kind"], 2)
    assert kinds.axes[0].values == ("a", "b", "c", "d")
    assert kinds.mean == pytest.approx(np.array([0.0, 3.0, 0.0, 1.0]) - 4, abs=0.4)
    both = dependence(cube, made, ["kind", "depth"], 9)
    assert [len(axis.values) for axis in both.axes] == [4, 5]
    assert both.mean.shape == (4, 5)
    assert both.mean.mean(axis=1) == pytest.approx(kinds.mean, abs=0.05)


def test_dependence_of_a_conditional_parameter_is_where_it_is_active() -> None:
    def branched(values: Assignment) -> float:
        return 10.0 + 4 * float(values["width"]) if values["kind"] == "large" else 0.0

    cube, _, made = fitted(BRANCHED, branched, 200)
    curve = dependence(cube, made, ["width"], 3)
    assert curve.mean == pytest.approx([10.0, 12.0, 14.0], abs=0.8)
