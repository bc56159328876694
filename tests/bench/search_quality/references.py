"""What scores are measured against: the best known loss of each task, and random search's median.

references.json holds what a long search has found, so that scores mean the same everywhere; a run
that finds something better lowers the best. Renew it with `run.py --references`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from keeptune.search.optimizers.base import Problem
from keeptune.search.optimizers.random_search import RandomSearch
from tests.bench.search_quality.cache import Cache, version
from tests.bench.search_quality.scores import Scale, random_median
from tests.bench.search_quality.tasks import TASKS, Task

_FILE = Path(__file__).with_name("references.json")
# The same points as random search with these seeds has, so that each is evaluated once.
POOL_SEEDS = 8
POOL_TRIALS = 128
BUDGETS = (8, 10, 16, 20, 24, 30, 32, 40, 48, 50, 64, 80, 100, 128)


def scale(task: Task, trials: int, seen: float, cache: Cache) -> Scale:
    """`seen` = the best loss of the runs to be scored."""
    known = _known().get(task.name, {})
    median = known.get("random", {}).get(str(trials))
    if median is None:
        median = random_median(pool(task, cache), trials)
    candidates = (seen, known.get("best"), cache.best(task.name))
    return Scale(min(c for c in candidates if c is not None), median)


def pool(task: Task, cache: Cache) -> list[float]:
    """Losses at random points; takes a minute or two the first time."""
    return [
        cache.loss(task, RandomSearch(Problem(task.space, seed)).ask(number).parameters)
        for seed in range(POOL_SEEDS)
        for number in range(1, POOL_TRIALS + 1)
    ]


def renew(tasks: list[Task], cache: Cache) -> None:
    """Writes what is known of these tasks now."""
    known = dict(_known())
    for task in tasks:
        losses = pool(task, cache)
        bests = (cache.best(task.name), known.get(task.name, {}).get("best"))
        known[task.name] = {
            "version": version(task.name),
            "best": min(best for best in bests if best is not None),
            "random": {str(trials): random_median(losses, trials) for trials in BUDGETS},
        }
        print(f"{task.name:20} best {known[task.name]['best']:.6g}", flush=True)
    _FILE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    _known.cache_clear()


@functools.cache
def _known() -> dict[str, Any]:
    if not _FILE.exists():
        return {}
    known = json.loads(_FILE.read_text())
    # Of another version of the task it would be wrong.
    return {
        name: found
        for name, found in known.items()
        if name in TASKS and found["version"] == version(name)
    }
