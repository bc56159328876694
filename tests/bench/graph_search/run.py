"""Compares methods for graphs on real tasks: pipelines, networks, formulas.

    python tests/bench/graph_search/run.py --seeds 10 --trials 100
    python tests/bench/graph_search/run.py --methods neat,random --tasks dag --by-task

Evaluations are kept, in KEEPTUNE_BENCH_CACHE or ~/.cache/keeptune/search-quality.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before numpy is loaded.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import argparse  # noqa: E402
import time  # noqa: E402
from dataclasses import dataclass  # noqa: E402

import numpy as np  # noqa: E402

from keeptune.search.optimizers import registry  # noqa: E402
from keeptune.search.optimizers.base import (  # noqa: E402
    Nothing,
    Outcome,
    Problem,
    Result,
)
from tests.bench.graph_search.store import Store, folder  # noqa: E402
from tests.bench.graph_search.tasks import TASKS, Task  # noqa: E402
from tests.bench.search_quality import scores as scoring  # noqa: E402

METHODS = "random,regularized-evolution,genetic-programming,neat,auto"


@dataclass(frozen=True)
class Comparison:
    """Scores by method and task; each an array of seeds."""

    summaries: dict[str, scoring.Summary]
    by_task: dict[str, dict[str, float]]


def play(method: str, task: Task, seed: int, trials: int, batch: int, store: Store) -> list[float]:
    """The losses in the order the trials ended; a round ends before the next begins."""
    problem = Problem(task.space, seed, trials)
    optimizer = registry.make(registry.choose(method, problem, "method").algorithm, problem)
    losses: list[float] = []
    while len(losses) < trials:
        asked = []
        for number in range(len(losses) + 1, min(len(losses) + batch, trials) + 1):
            answer = optimizer.ask(number)
            if isinstance(answer, Nothing):
                raise ValueError(f"{method} on {task.name} has nothing left at trial {number}")
            asked.append((number, answer.parameters))
        for number, parameters in asked:
            found = store.loss(task, parameters)
            optimizer.tell(Result(number, parameters, Outcome.MEASURED, (found,)))
            losses.append(found)
    return losses


def compare(
    methods: list[str], tasks: list[Task], seeds: range, trials: int, batch: int, store: Store
) -> Comparison:
    """0 = the best known of a task, 1 = the median of random search in this very run."""
    runs: dict[str, list[list[list[float]]]] = {method: [] for method in methods}
    for task in tasks:
        began = time.monotonic()
        for method in methods:
            runs[method].append([play(method, task, seed, trials, batch, store) for seed in seeds])
        print(f"{task.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    scores = {method: np.empty((len(tasks), len(seeds))) for method in methods}
    for i, task in enumerate(tasks):
        pool = [loss for losses in runs["random"][i] for loss in losses]
        scale = scoring.Scale(store.best(task), scoring.random_median(pool, trials))
        for method in methods:
            scores[method][i] = [scale.score(min(losses)) for losses in runs[method][i]]
    by_task = {
        task.name: {method: float(scores[method][i].mean()) for method in methods}
        for i, task in enumerate(tasks)
    }
    return Comparison(scoring.summaries(scores), by_task)


def table(comparison: Comparison) -> str:
    lines = ["| method | score | 95 % interval | mean rank |", "|---|---|---|---|"]
    for method, found in sorted(comparison.summaries.items(), key=lambda item: item[1].mean):
        interval = f"{found.low:.2f} to {found.high:.2f}"
        lines.append(f"| `{method}` | {found.mean:.2f} | {interval} | {found.rank:.1f} |")
    return "\n".join(lines)


def table_by_task(comparison: Comparison) -> str:
    methods = list(comparison.summaries)
    lines = [f"| task | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for task, scores in comparison.by_task.items():
        lines.append(f"| {task} | {' | '.join(f'{scores[m]:.2f}' for m in methods)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=METHODS, help="random is always among them")
    parser.add_argument("--tasks", default="", help="beginnings of names, by commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1, help="asked at once, then told at once")
    parser.add_argument("--by-task", action="store_true")
    options = parser.parse_args(arguments)
    wanted = tuple(name for name in options.tasks.split(",") if name)
    tasks = [task for name, task in TASKS.items() if not wanted or name.startswith(wanted)]
    methods = list(dict.fromkeys(["random", *options.methods.split(",")]))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    comparison = compare(methods, tasks, seeds, options.trials, options.batch, Store(folder()))
    if options.by_task:
        print(f"\n{table_by_task(comparison)}")
    print(
        f"\n{table(comparison)}\n\n{len(tasks)} tasks, {len(seeds)} seeds, {options.trials} trials"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
