"""Constraints: how probably they hold, and that a search keeps to them."""

from __future__ import annotations

import numpy as np

from keeptune.search.domains import FloatRange
from keeptune.search.optimizers import registry, seeds
from keeptune.search.optimizers.base import Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.bayesian.encoding import Encoding
from keeptune.search.optimizers.bayesian.feasibility import Limit
from keeptune.search.optimizers.bayesian.improvement import log_expected_improvement
from keeptune.search.space import Parameter, SearchSpace

SPACE = SearchSpace(tuple(Parameter(name, FloatRange(0.0, 1.0)) for name in "ab"))


def test_a_limit_on_what_spans_orders_of_magnitude() -> None:
    """A size of 10 to 1,000,000, at most 300: a tenth of them keep to it."""
    encoding = Encoding(SPACE)
    rng = np.random.default_rng(0)

    def broken(rows: np.ndarray) -> np.ndarray:
        return np.asarray(10 ** (1 + 2.5 * (rows[:, 0] + rows[:, 1])) - 300)

    rows = rng.random((30, 2))
    limit = Limit.fit(encoding.places(rows), encoding.owner, broken(rows), seeds.generator(1))
    new = rng.random((400, 2))
    likely = limit.log_chance(encoding.places(new)) > np.log(0.5)
    kept = broken(new) <= 0
    assert 0.05 < kept.mean() < 0.3
    assert (likely == kept).mean() > 0.95


def test_what_is_far_better_is_told_apart() -> None:
    """Where the best so far is the best of few feasible points, all else may be far better."""
    means = np.array([-1e6, -100.0, -40.0, -20.0, 0.0, 20.0, 40.0, 100.0])
    found = log_expected_improvement(means, np.ones(8), np.zeros(8))
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert np.allclose(np.exp(found[:4]), -means[:4], rtol=1e-3)


def test_the_best_that_keeps_to_a_limit_is_found() -> None:
    """The loss falls towards what is forbidden; the best lies on the border, at a + b = 0.4."""
    optimizer = registry.make("bayesian", Problem(SPACE, 2, 30, constraints=1))
    best = np.inf
    for number in range(1, 31):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        a, b = (float(value) for value in answer.parameters.values())
        size = 10 ** (5 * (a + b))
        result = Result(
            number,
            answer.parameters,
            Outcome.MEASURED,
            (-1000 * a - 500 * b,),
            (size - 10**2,),
        )
        optimizer.tell(result)
        if result.is_feasible:
            best = min(best, result.losses[0])
    assert best < -350
