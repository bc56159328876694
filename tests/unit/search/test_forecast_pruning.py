from __future__ import annotations

import math
import time

import numpy as np
import pytest

from keeptune.search.pruning import ForecastPruning, ForecastRule
from keeptune.search.pruning.extrapolation import Curve, Extrapolation

STEPS = 60


def curves(count: int, seed: int) -> list[list[float]]:
    """Powers, exponentials, late drops and such that rise again, with noise; less is better."""
    rng = np.random.default_rng(seed)
    time_ = np.arange(1, STEPS + 1) / STEPS
    found = []
    for _ in range(count):
        kind, pace = rng.integers(4), rng.uniform(0.3, 2.0)
        if kind == 0:
            fall = (np.arange(1, STEPS + 1)) ** -pace
        elif kind == 1:
            fall = np.exp(-3 * pace * time_)
        elif kind == 2:
            fall = np.exp(-((time_ / (0.3 * pace)) ** 3))
        else:
            fall = np.exp(-8 * pace * time_) + 0.3 * pace * time_
        curve = rng.uniform(0.1, 1.0) + rng.uniform(0.3, 2.0) * fall
        found.append([float(v) for v in curve + 0.01 * rng.standard_normal(STEPS)])
    return found


def play(rule: ForecastRule, trial: int, curve: list[float]) -> int:
    """The step at which it was stopped; 0 = it ran to its end."""
    for step, loss in enumerate(curve, start=1):
        if rule.verdict(trial, [(step, loss)]):
            rule.finish(trial, completed=False)
            return step
        rule.observe(trial, step, loss)
    rule.finish(trial, completed=True, loss=curve[-1])
    return 0


@pytest.mark.parametrize("level", [0.02, 0.05, 0.2])
def test_no_more_winners_are_stopped_than_the_level_says(level: float) -> None:
    stopped = wrong = spent = trials = 0
    for seed in range(8):
        rule = ForecastRule(ForecastPruning(level, max_steps=STEPS))
        best = math.inf
        for trial, curve in enumerate(curves(40, seed)):
            at = play(rule, trial, curve)
            trials, spent = trials + 1, spent + (at or STEPS)
            if at:
                stopped, wrong = stopped + 1, wrong + (curve[-1] < best)
            else:
                best = min(best, curve[-1])
    assert wrong / stopped <= level
    # And it is worth having.
    assert spent < 0.6 * trials * STEPS


def test_nothing_is_stopped_before_one_has_ended() -> None:
    rule = ForecastRule(ForecastPruning(max_steps=STEPS))
    for trial in range(8):
        for step in range(1, STEPS):
            assert rule.verdict(trial, [(step, 100.0 * trial)]) == ""
            rule.observe(trial, step, 100.0 * trial)
    rule.finish(0, completed=False)
    rule.finish(1, completed=True, loss=None)
    hopeless = [(step, 9.0) for step in range(1, 40)]
    assert rule.verdict(9, hopeless) == ""
    rule.observe(8, 1, 1.0)
    rule.observe(8, STEPS, 0.5)
    rule.finish(8, completed=True, loss=0.5)
    assert "below 5.00%" in rule.verdict(9, hopeless)


def test_a_slow_start_that_still_falls_fast_goes_on() -> None:
    rule = ForecastRule(ForecastPruning(max_steps=STEPS))
    quick = [0.5 + 0.5 * math.exp(-step / 3) for step in range(1, STEPS + 1)]
    assert play(rule, 1, quick) == 0
    # Worse at every step but the last few, and of a shape that no trial had before.
    assert play(rule, 2, [1.5 - 1.1 * step / STEPS for step in range(1, STEPS + 1)]) == 0
    # As high, and flat.
    assert play(rule, 3, [1.5 - 0.1 * step / STEPS for step in range(1, STEPS + 1)]) < STEPS / 2


def test_late_drops_are_learned_from_other_trials() -> None:
    def late(low: float) -> list[float]:
        """Whose learning rate falls after two thirds of its steps."""
        return [1.0 + low if step < 2 * STEPS / 3 else low for step in range(1, STEPS + 1)]

    rule = ForecastRule(ForecastPruning(max_steps=STEPS))
    for trial in range(6):
        play(rule, trial, late(0.5))
    assert play(rule, 7, late(0.4)) == 0
    assert 0 < play(rule, 8, late(1.5)) < 10


def test_the_verdict_follows_from_the_history_alone() -> None:
    first, second = (ForecastRule(ForecastPruning(max_steps=STEPS)) for _ in range(2))
    told = curves(12, seed=3)
    for trial, curve in enumerate(told):
        for step, loss in enumerate(curve, start=1):
            first.observe(trial, step, loss)
        first.finish(trial, completed=True, loss=curve[-1])
    # As after a restart: all measurements are read before any end.
    for step in range(1, STEPS + 1):
        for trial, curve in enumerate(told):
            second.observe(trial, step, curve[step - 1])
            second.observe(trial, step, 99.0)
    for trial, curve in enumerate(told):
        second.finish(trial, completed=True, loss=curve[-1])
    for curve in curves(10, seed=4):
        points = list(enumerate(curve[:20], start=1))
        assert first.verdict(99, points) == second.verdict(99, points)
        assert first.verdict(99, points[::-1]) == first.verdict(99, points)


def test_the_length_is_learned_where_it_is_not_said() -> None:
    rule = ForecastRule(ForecastPruning())
    flat = [(step, 9.0) for step in range(1, 11)]
    assert play(rule, 1, [1.0] * 10) == 0
    assert rule.verdict(2, flat[:5])
    # Its last step is nothing to be stopped at.
    assert rule.verdict(2, flat) == ""
    assert play(rule, 3, [0.9] * 20) == 0
    assert "by step 20" in rule.verdict(2, flat)


def test_settings_spare_the_first_steps() -> None:
    rule = ForecastRule(ForecastPruning(max_steps=STEPS, min_steps=30))
    for trial in range(5):
        play(rule, trial, [1.0] * STEPS)
    assert play(rule, 6, [9.0] * STEPS) > 30
    eager = ForecastRule(ForecastPruning(max_steps=STEPS))
    for trial in range(5):
        play(eager, trial, [1.0] * STEPS)
    assert play(eager, 6, [9.0] * STEPS) == 3


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_units_and_offsets_do_not_matter(scale: float) -> None:
    told = curves(25, seed=5)
    plain, other = (ForecastRule(ForecastPruning(max_steps=STEPS)) for _ in range(2))
    stops = [play(plain, trial, curve) for trial, curve in enumerate(told)]
    assert any(stops)
    again = [play(other, trial, [scale * (v - 7) for v in c]) for trial, c in enumerate(told)]
    assert again == stops


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e150, -1e150])
def test_odd_curves_do_no_harm(value: float) -> None:
    rule = ForecastRule(ForecastPruning(max_steps=STEPS))
    play(rule, 1, [value] * STEPS)
    play(rule, 2, [0.0, *[value] * (STEPS - 1)])
    for step in range(1, STEPS):
        rule.verdict(3, [(step, value)])
        rule.observe(3, step, value)
    # As good as the best is not better.
    rule.observe(4, 0, 1.0)
    assert isinstance(rule.verdict(4, [(10**12, 1.0)]), str)


def test_the_forecast_covers_what_comes() -> None:
    extrapolation = Extrapolation(STEPS)
    ranks = []
    for i, curve in enumerate(curves(60, seed=6)):
        whole = Curve.of(dict(enumerate(curve, start=1)), STEPS)
        if i > 10:
            for reach in (12, 8, 4):
                forecast = extrapolation.forecast(whole.until(reach))
                ranks.append(forecast.probability_below(curve[-1]))
        extrapolation.learn(whole, curve[-1])
    # What ends lower than the forecast thinks possible is what is stopped wrongly.
    for level in (0.05, 0.1, 0.25):
        lower = sum(rank < level for rank in ranks) / len(ranks)
        assert lower <= level + 2 * math.sqrt(level * (1 - level) / len(ranks))
    assert 0.3 < sorted(ranks)[len(ranks) // 2] < 0.7


def test_verdicts_and_long_histories_take_little_time() -> None:
    rule = ForecastRule(ForecastPruning(max_steps=10_000))
    rng = np.random.default_rng(0)
    for trial in range(60):
        for step in range(100, 10_001, 100):
            rule.observe(trial, step, float(rng.random()))
        rule.finish(trial, completed=True, loss=float(rng.random()))
    points = [(step, 1.0) for step in range(100, 5_000, 100)]
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        rule.verdict(99, points)
        best = min(best, time.perf_counter() - started)
    assert best < 0.02
    started = time.process_time()
    for trial in range(100, 300):
        for step in range(100, 10_001, 1000):
            rule.observe(trial, step, 1.0)
        rule.finish(trial, completed=True, loss=1.0)
    assert time.process_time() - started < 0.5
