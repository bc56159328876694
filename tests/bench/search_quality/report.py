"""Runs into a table and a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.bench.search_quality import references
from tests.bench.search_quality.cache import Cache
from tests.bench.search_quality.play import Run
from tests.bench.search_quality.scores import Array, Summary, summaries
from tests.bench.search_quality.tasks import TASKS


@dataclass(frozen=True)
class Comparison:
    """After a number of trials; `scores` by method are (tasks, seeds)."""

    trials: int
    tasks: tuple[str, ...]
    scores: dict[str, Array]
    summaries: dict[str, Summary]


def compare(runs: Sequence[Run], trials: int, cache: Cache) -> Comparison:
    """Over the tasks and seeds that every method has played."""
    methods = list(dict.fromkeys(run.method for run in runs))
    played = [{(r.task, r.seed) for r in runs if r.method == method} for method in methods]
    common = set.intersection(*played)
    seeds = sorted({seed for _, seed in common})
    tasks = tuple(name for name in TASKS if all((name, seed) in common for seed in seeds) and seeds)
    if not tasks:
        raise ValueError("there is no task that every method has played with every seed")
    by_key = {(run.method, run.task, run.seed): run for run in runs}
    scales = {
        task: references.scale(
            TASKS[task], trials, min(min(run.losses) for run in runs if run.task == task), cache
        )
        for task in tasks
    }
    scores = {
        method: np.array(
            [
                [scales[task].score(by_key[method, task, seed].best(trials)) for seed in seeds]
                for task in tasks
            ]
        )
        for method in methods
    }
    return Comparison(trials, tasks, scores, summaries(scores))


def table(comparison: Comparison, runs: Sequence[Run]) -> str:
    """Best method first."""
    seeds = next(iter(comparison.scores.values())).shape[1]
    lines = [
        f"after {comparison.trials} trials, {len(comparison.tasks)} tasks, {seeds} seeds",
        f"{'method':24} {'score':>6} {'95 % interval':>16} {'rank':>6} {'CPU ms':>8}",
    ]
    for method, found in sorted(comparison.summaries.items(), key=lambda item: item[1].mean):
        cpu = np.mean([run.cpu_ms for run in runs if run.method == method])
        interval = f"[{found.low:.2f}, {found.high:.2f}]"
        lines.append(f"{method:24} {found.mean:6.3f} {interval:>16} {found.rank:6.2f} {cpu:8.1f}")
    return "\n".join(lines)


def table_by_task(comparison: Comparison) -> str:
    """Mean scores, a line a task."""
    methods = list(comparison.scores)
    lines = [" " * 20 + "".join(f"{method[-14:]:>15}" for method in methods)]
    for i, task in enumerate(comparison.tasks):
        means = (comparison.scores[method][i].mean() for method in methods)
        lines.append(f"{task:20}" + "".join(f"{mean:15.3f}" for mean in means))
    return "\n".join(lines)


def document(comparisons: Iterable[Comparison], runs: Sequence[Run]) -> dict[str, Any]:
    """All there is, ready for JSON."""
    return {
        "comparisons": [
            {
                "trials": comparison.trials,
                "tasks": comparison.tasks,
                "summaries": {m: asdict(s) for m, s in comparison.summaries.items()},
                "scores": {m: s.tolist() for m, s in comparison.scores.items()},
            }
            for comparison in comparisons
        ],
        "runs": [asdict(run) for run in runs],
    }
