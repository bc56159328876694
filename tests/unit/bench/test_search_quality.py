"""The benchmark of search quality measures what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keeptune.search.optimizers.base import Problem
from keeptune.search.optimizers.random_search import RandomSearch
from keeptune.search.space_rules import violations
from tests.bench.search_quality import peers
from tests.bench.search_quality.cache import Cache
from tests.bench.search_quality.play import play
from tests.bench.search_quality.scores import Scale, random_median, ranked, summaries
from tests.bench.search_quality.tasks import TASKS

CHEAP = "weights-wine"


def test_spaces_are_valid_and_of_several_kinds() -> None:
    for task in TASKS.values():
        assert not list(violations(task.space, "space")), task.name
    main = [task for task in TASKS.values() if task.group == "main"]
    assert len(main) >= 13
    assert sum(task.space.is_conditional or len(task.space.free) >= 12 for task in main) >= 3


@pytest.mark.parametrize("name", [CHEAP, "pipeline-diabetes", "logistic-cancer"])
def test_evaluation_is_deterministic(name: str) -> None:
    task = TASKS[name]
    points = [RandomSearch(Problem(task.space, 7)).ask(n).parameters for n in range(1, 4)]
    first = [task.loss(point) for point in points]
    assert first == [task.loss(point) for point in points]
    assert np.isfinite(first).all()
    assert len(set(first)) > 1


def test_a_run_asks_and_tells_in_rounds_and_evaluates_once(tmp_path: Path) -> None:
    task, cache = TASKS[CHEAP], Cache(tmp_path)
    run = play(peers.method("random"), task, 3, 10, 4, cache)
    search = RandomSearch(Problem(task.space, 3, trials=10))
    points = [search.ask(n).parameters for n in range(1, 11)]
    assert run.losses == tuple(task.loss(point) for point in points)
    assert cache.best(task.name) == min(run.losses) == run.best(10)
    assert run.best(2) == min(run.losses[:2])


def test_the_best_known_scores_0_and_randoms_median_1() -> None:
    scale = Scale(best=0.2, random=0.6)
    assert scale.score(0.2) == 0.0
    assert scale.score(0.6) == pytest.approx(1.0)
    assert scale.score(0.8) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="tells nothing"):
        Scale(best=0.2, random=0.2)


def test_the_median_of_random_search_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    pool = rng.exponential(size=300)
    for trials in (1, 5, 40):
        drawn = [rng.choice(pool, trials, replace=False).min() for _ in range(3000)]
        below = np.mean(np.array(drawn) <= random_median(pool.tolist(), trials))
        assert below == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ValueError, match="301 trials"):
        random_median(pool.tolist(), 301)


def test_ties_share_ranks() -> None:
    table = np.array([[1.0, 5.0], [1.0, 3.0], [2.0, 4.0]])
    assert ranked(table).tolist() == [[1.5, 3.0], [1.5, 1.0], [3.0, 2.0]]


def test_intervals_hold_the_mean_and_are_repeatable() -> None:
    rng = np.random.default_rng(1)
    scores = {"good": rng.normal(0.4, 0.2, (12, 10)), "bad": rng.normal(1.0, 0.2, (12, 10))}
    found = summaries(scores)
    assert found == summaries(scores)
    assert found["good"].low < found["good"].mean < found["good"].high < found["bad"].low
    assert found["good"].rank < found["bad"].rank
