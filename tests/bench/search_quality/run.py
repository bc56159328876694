"""Compares search methods on real hyper-parameter tasks.

    python tests/bench/search_quality/run.py --methods random,auto,optuna-tpe --seeds 10
    python tests/bench/search_quality/run.py --methods auto --trials 128 --batch 8 --tasks svm,mlp

Evaluations are kept (see cache.py), and so are the runs of public tools.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before numpy is loaded: a suggestion's time is that of one core.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from itertools import product  # noqa: E402

from tests.bench.search_quality import cache, peers, references, report  # noqa: E402
from tests.bench.search_quality.play import Run, play  # noqa: E402
from tests.bench.search_quality.tasks import TASKS, Task  # noqa: E402


@dataclass(frozen=True)
class Skipped:
    """A method whose tool is not installed."""

    method: str
    reason: str


@dataclass(frozen=True)
class Job:
    method: str
    task: str
    seed: int
    trials: int
    batch: int

    def __call__(self) -> Run | Skipped | str:
        """The run, or what went wrong."""
        store = cache.Cache(cache.folder())
        try:
            return play(
                peers.method(self.method),
                TASKS[self.task],
                self.seed,
                self.trials,
                self.batch,
                store,
            )
        except ImportError as absent:
            return Skipped(self.method, str(absent))
        except Exception:  # noqa: BLE001 a tool that breaks on one task has still played the others
            return f"{self.method} on {self.task}, seed {self.seed}:\n{traceback.format_exc()}"


def compared(
    methods: list[str], tasks: list[Task], seeds: list[int], trials: int, batch: int, jobs: int
) -> tuple[list[Run], list[str]]:
    """The runs of all methods that can be used here or are known, and what went wrong."""
    todo = [
        Job(method, task.name, seed, trials, batch)
        for method, task, seed in product(methods, tasks, seeds)
    ]
    skipped: set[str] = set()
    runs: list[Run] = []
    faults: list[str] = []
    began = time.monotonic()
    for i, result in enumerate(_results(todo, jobs), 1):
        if isinstance(result, Run):
            runs.append(result)
        elif isinstance(result, Skipped):
            if result.method not in skipped:
                print(result.reason, flush=True)
            skipped.add(result.method)
        else:
            faults.append(result)
            print(result, flush=True)
        if i % 100 == 0:
            print(f"{i} of {len(todo)} runs, {time.monotonic() - began:.0f} s", flush=True)
    return [run for run in runs if run.method not in skipped], faults


def _results(todo: list[Job], jobs: int) -> Iterator[Run | Skipped | str]:
    if jobs == 1:
        yield from (job() for job in todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(Job.__call__, todo)


def chosen_tasks(names: str, group: str) -> list[Task]:
    """Those whose names begin with one of `names`; without names those of the group."""
    wanted = tuple(name for name in names.split(",") if name)
    tasks = [
        task
        for task in TASKS.values()
        if (task.name.startswith(wanted) if wanted else group in (task.group, "all"))
    ]
    if not tasks:
        raise SystemExit(f"no such task; there are {', '.join(TASKS)}")
    return tasks


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="random,auto,optuna-tpe")
    parser.add_argument("--tasks", default="", help="beginnings of names; default: the group")
    parser.add_argument("--group", default="main", choices=("main", "check", "all"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1, help="asked at once, then told at once")
    parser.add_argument("--at", default="20", help="also score after this many trials, by commas")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--by-task", action="store_true")
    parser.add_argument("--out", type=Path, help="everything as JSON")
    parser.add_argument("--references", action="store_true", help="renew references.json")
    parser.add_argument("--list", action="store_true", help="name the public tools and the tasks")
    options = parser.parse_args(arguments)
    if options.list:
        print("methods:", ", ".join([*peers.PUBLIC, "and every algorithm of keeptune"]))
        print("\n".join(f"{t.name:20} {len(t.space.free):3} {t.group}" for t in TASKS.values()))
        return 0
    tasks = chosen_tasks(options.tasks, options.group)
    store = cache.Cache(cache.folder())
    if options.references:
        references.renew(tasks, store)
        return 0
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    runs, faults = compared(
        options.methods.split(","), tasks, seeds, options.trials, options.batch, options.jobs
    )
    if not runs:
        print("nothing was played")
        return 1
    # Whole rounds only.
    earlier = {-(-int(at) // options.batch) * options.batch for at in options.at.split(",") if at}
    budgets = sorted({at for at in earlier if at < options.trials} | {options.trials})
    comparisons = [report.compare(runs, trials, store) for trials in budgets]
    for comparison in comparisons:
        if options.by_task:
            print(f"\n{report.table_by_task(comparison)}")
        print(f"\n{report.table(comparison, runs)}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(report.document(comparisons, runs)))
    print(f"\n{len(runs)} runs, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
