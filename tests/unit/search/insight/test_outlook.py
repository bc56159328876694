"""The outlook on searches whose future is known."""

from __future__ import annotations

import numpy as np
import pytest

from keeptune.search.insight import wording
from keeptune.search.insight.outlook import Advice, Outlook, outlook


def at_random(dimension: int, trials: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(((rng.random((trials, dimension)) - 0.4) ** 2).sum(axis=1))


def climbing(dimension: int, trials: int, rng: np.random.Generator) -> np.ndarray:
    """A (1+1) evolution strategy after eight random points."""
    points = rng.random((8, dimension))
    losses = [*((points - 0.4) ** 2).sum(axis=1)]
    best, least, step = points[int(np.argmin(losses))], min(losses), 0.2
    while len(losses) < trials:
        point = np.clip(best + step * rng.normal(size=dimension), 0, 1)
        losses.append(float(((point - 0.4) ** 2).sum()))
        step *= 1.5 if losses[-1] < least else 1.5**-0.25
        if losses[-1] < least:
            best, least = point, losses[-1]
    return np.array(losses)


@pytest.mark.parametrize("search", [at_random, climbing])
def test_what_is_said_to_be_probable_happens_as_often(search: object) -> None:
    stated, happened, inside = [], [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        known, further = int(rng.choice([15, 40, 100])), int(rng.choice([10, 40, 100]))
        losses = search(int(rng.choice([1, 2, 4, 8])), known + further, rng)  # type: ignore[operator]
        found = outlook(losses[:known], further, None, rng, learns=search is climbing)
        best = min(found.best, float(losses[known:].min()))
        stated.append(found.probability)
        happened.append(found.best - best > found.tolerance)
        inside.append(found.low - 1e-12 <= best <= found.high + 1e-12)
    chances, came = np.array(stated), np.array(happened)
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        these = (chances >= low) & (chances < high)
        assert these.sum() > 5
        # Three standard deviations, and a tenth for what the model leaves out.
        slack = 0.1 + 3 * np.sqrt(0.25 / these.sum())
        assert came[these].mean() == pytest.approx(chances[these].mean(), abs=slack)
    # Better than always stating the mean.
    assert np.mean((chances - came) ** 2) < np.var(came)
    assert np.mean(inside) > 0.65


def test_a_search_that_is_done_is_told_from_one_that_gains() -> None:
    rng = np.random.default_rng(1)
    gaining = outlook(np.geomspace(1.0, 0.01, 40), 20, None, rng)
    assert gaining.advice is Advice.CONTINUE
    assert gaining.probability > 0.8
    assert gaining.expected < gaining.best
    stuck = outlook(np.concatenate([[1.0, 0.5, 0.2, 0.1999], np.full(300, 0.3)]), 20, None, rng)
    assert stuck.advice is Advice.STOP
    assert stuck.probability < 0.05
    assert "probably not help" in wording.verdict(stuck, "0.001")
    assert stuck.records == (0, 1, 2, 3)


def test_a_tolerance_asks_for_more() -> None:
    losses = at_random(3, 40, np.random.default_rng(3))
    chances = [
        outlook(losses, 40, tolerance, np.random.default_rng(4)).probability
        for tolerance in (0.0, 0.005, 0.02, 10.0)
    ]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > chances[2]
    assert chances[3] == 0.0


def test_failures_and_ties_are_no_improvements() -> None:
    rng = np.random.default_rng(0)
    losses = np.array([np.inf, 1.0, np.inf, 0.5, 0.5, np.inf, 0.5])
    found = outlook(losses, 10, None, rng)
    assert (found.best, found.best_trial, found.records) == (0.5, 3, (1, 3))
    values = [2.0] * 49 + [3.0]
    flat: Outlook = outlook(np.array(values), 0, None, rng)
    assert (flat.best, flat.expected, flat.probability) == (2.0, 2.0, 0.0)
    told = wording.evidence(flat, [2.0], -1.0)
    assert told[0].startswith("the best, -2, came with result 1 of 50; the 49 since")
    assert "never beaten" in told[1]
