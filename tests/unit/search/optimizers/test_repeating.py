"""Noisy measurements: what is believed of points, and which are worth measuring again."""

from __future__ import annotations

import numpy as np
import pytest

from keeptune.search.domains import Categories, FloatRange
from keeptune.search.insight.choice import choose
from keeptune.search.optimizers import registry, seeds
from keeptune.search.optimizers.base import Adopting, Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.bayesian.encoding import Encoding
from keeptune.search.optimizers.bayesian.incumbents import Incumbents
from keeptune.search.optimizers.bayesian.process import condition
from keeptune.search.optimizers.repeating import RepeatingSearch
from keeptune.search.replay import Asked, Follower
from keeptune.search.space import Assignment, Parameter, SearchSpace

LINE = SearchSpace((Parameter("x", FloatRange(0.0, 1.0)),))
NOISE = 0.1


def results(count: int, noise: float) -> list[Result]:
    """A parabola about 0.7 on an even grid, each measured twice; a lucky draw at 0.43."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(1, 2 * count + 1):
        x = (number - 1) % count / (count - 1)
        loss = (x - 0.7) ** 2 + noise * float(rng.standard_normal())
        found.append(Result(number, {"x": x}, Outcome.MEASURED, (loss,)))
    found.append(Result(99, {"x": 0.43}, Outcome.MEASURED, (-3.2 * noise,)))
    return found


def incumbents(found: list[Result], samples: int = 4) -> Incumbents:
    known = Incumbents.of(Encoding(LINE), found, seeds.generator(1), samples)
    assert known is not None
    return known


def test_a_lucky_draw_is_not_the_best() -> None:
    found = results(15, NOISE)
    known = incumbents(found)
    assert min(found, key=lambda r: r.losses[0]).number == 99
    assert abs(float(known.rows[known.best, 0]) - 0.7) < 0.15
    assert known.noise == pytest.approx(NOISE, rel=0.4)
    assert len(known.rows) == 16
    assert sorted(known.measured) == [1] + [2] * 15


def test_the_gradient_of_knowledge_is_that_of_many_draws() -> None:
    """Drawn: the function at all points, a measurement of one, and what is chosen with it."""
    known = incumbents(results(4, NOISE), samples=2)
    rng = np.random.default_rng(0)
    one = known.process
    row = known.rows[[known.best]]
    found = known.gradient(row)[0]
    gains = []
    for s in range(len(one.lengths)):
        means = known._believed[0][s]
        place = known.encoding.places(row)
        for _ in range(150):
            noise = np.sqrt(one.noise[s] * one.scale[s])
            value = one.draw(place, rng)[s, 0] + noise * rng.standard_normal()
            targets = np.concatenate([one.targets, np.full((len(one.lengths), 1), value)], axis=1)
            again = condition(
                np.concatenate([one.places, place]), targets, one.lengths, one.noise, one.scale
            )
            gains.append(means.min() - again.predict(known.encoding.places(known.rows))[0][s].min())
    assert found == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))


def test_the_choice_tells_how_sure_it_is() -> None:
    found = results(15, NOISE)
    chosen = choose(LINE, found, seeds.generator(2))
    assert chosen is not None
    assert chosen.lowest == 99
    assert chosen.probability > 0.8
    assert chosen.low < chosen.expected < chosen.high
    assert choose(LINE, [], seeds.generator(2)) is None
    broken = [Result(1, {"x": 0.5}, Outcome.MEASURED, (1.0,), (1.0,))]
    assert choose(LINE, broken, seeds.generator(2)) is None


def played(
    trials: int, noise: float, *, noisy: bool, interrupted: bool = False
) -> list[Suggestion]:
    problem = Problem(LINE, 5, trials, noisy=noisy)
    rng = np.random.default_rng(0)
    asked: list[Asked] = []
    told: list[Result] = []
    found: list[Suggestion] = []
    follower = Follower(registry.make("bayesian", problem))
    for number in range(1, trials + 1):
        if interrupted:
            follower = Follower(registry.make("bayesian", problem))
        follower.catch_up(asked[follower.trials :], told[follower.told :])
        (suggested,), _ = follower.suggest(1)
        parameters: Assignment = suggested.suggestion.parameters
        found.append(suggested.suggestion)
        asked.append(Asked(number, suggested.told, parameters))
        loss = (float(parameters["x"]) - 0.7) ** 2 + noise * float(rng.standard_normal())
        told.append(Result(number, parameters, Outcome.MEASURED, (loss,)))
    return found


def test_without_noise_declared_nothing_is_repeated() -> None:
    plain = [each.parameters["x"] for each in played(20, NOISE, noisy=False)]
    assert len(set(plain)) == len(plain)


def test_when_all_was_tried_what_leads_is_tried_again() -> None:
    """Ten levels without an order, each a little better than the one before."""
    levels = SearchSpace((Parameter("level", Categories(tuple(range(10)))),))
    optimizer = registry.make("bayesian", Problem(levels, 5, 60, noisy=True))
    rng = np.random.default_rng(0)
    asked: list[int] = []
    for number in range(1, 31):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        asked.append(int(answer.parameters["level"]))
        loss = 0.1 * (9 - asked[-1]) + 0.2 * float(rng.standard_normal())
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (loss,)))
    counts = np.bincount(asked, minlength=10)
    assert counts.min() >= 1
    assert counts[6:].sum() > 0.6 * 30


def test_where_there_is_no_noise_after_all_hardly_anything_is_repeated() -> None:
    assert [each.source for each in played(20, 0.0, noisy=True)].count("repeat") <= 2


def test_an_interrupted_noisy_study_goes_on_the_same() -> None:
    assert played(18, NOISE, noisy=True, interrupted=True) == played(18, NOISE, noisy=True)


def test_only_what_can_be_told_of_repeats_repeats() -> None:
    for name in ("bayesian", "tpe"):
        optimizer = registry.make(name, Problem(LINE, 1, 20, noisy=True))
        assert isinstance(optimizer, RepeatingSearch)
        assert isinstance(optimizer, Adopting)
    several = registry.make("nsga-ii", Problem(LINE, 1, 20, objectives=2, noisy=True))
    assert not isinstance(several, RepeatingSearch)
