"""Compares methods for several objectives, constraints and noise on real tasks.

    python tests/bench/multi_objective/run.py --section front --methods random,hypervolume
    python tests/bench/multi_objective/run.py --section limits --methods random,auto,optuna-tpe
    python tests/bench/multi_objective/run.py --section noise --methods random,auto,optuna-tpe

front   all measures are objectives; scored by the hypervolume that their front dominates
limits  the first measure within limits on the others; scored by the best that keeps to them
noise   the first measure, each time on another split of the data; scored by the mean over many
        other splits at what the method would have one take

Scores: 0 = the best that anybody has found (the hypervolume of all evaluations known together), 1 =
the median of random search with as many trials. Evaluations are kept, and runs of public tools.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import argparse  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from itertools import product  # noqa: E402

import numpy as np  # noqa: E402

from keeptune.search.pareto import hypervolume  # noqa: E402
from tests.bench.multi_objective import players  # noqa: E402
from tests.bench.multi_objective.cache import Cache, Floats  # noqa: E402
from tests.bench.multi_objective.tasks import TASKS, Task  # noqa: E402
from tests.bench.search_quality.cache import folder  # noqa: E402
from tests.bench.search_quality.scores import summaries  # noqa: E402

_RANDOM_RUNS = 6


@dataclass(frozen=True)
class Run:
    """`found` (trials, measures) in the order asked; `chosen`: the parameters it would have one
    take after so many trials, in the noise section. `cpu_ms` of a suggestion with its tell."""

    method: str
    task: str
    seed: int
    found: list[list[float]]
    chosen: dict[str, dict[str, bool | int | float | str]]
    cpu_ms: float


def play(
    section: str, method: str, task: Task, seed: int, trials: int, at: Sequence[int], cache: Cache
) -> Run:
    version = players.version(method)
    key = [section, method, task.name, task.revision, task.limits, seed, trials]
    if section == "noise":
        key += at
    kept = cache.run(key) if version is not None else None
    if kept is not None and version in ("", kept.pop("version")):
        return Run(**kept)
    player = players.make(method, _settings(section, task, seed, trials))
    asked, found, chosen, spent = [], [], {}, 0.0
    for trial in range(1, trials + 1):
        began = time.process_time()
        parameters = player.ask()
        spent += time.process_time() - began
        if parameters is None:
            break
        fault = task.space.problem_with(parameters)
        if fault:
            raise ValueError(f"{method} on {task.name}: {' '.join(fault)}: {parameters}")
        if section == "noise":
            values: tuple[float, ...] = (cache.on_split(task, parameters, 10_000 * seed + trial),)
        else:
            values = cache.values(task, parameters)
        asked.append(dict(parameters))
        found.append(list(values))
        losses, broken = values, ()
        if section == "limits":
            losses = values[:1]
            broken = tuple(np.subtract(values[1:], task.limits).tolist())
        began = time.process_time()
        player.tell(losses, broken)
        if section == "noise" and trial in at:
            wanted = player.choice()
            luckiest = asked[int(np.argmin([each[0] for each in found]))]
            chosen[str(trial)] = dict(luckiest if wanted is None else wanted)
        spent += time.process_time() - began
    run = Run(method, task.name, seed, found, chosen, 1e3 * spent / len(found))
    if version:
        cache.keep(key, {**asdict(run), "version": version})
    return run


def _settings(section: str, task: Task, seed: int, trials: int) -> players.Settings:
    match section:
        case "front":
            return players.Settings(task.space, seed, trials, len(task.measures))
        case "limits":
            return players.Settings(task.space, seed, trials, 1, len(task.limits))
        case _:
            return players.Settings(task.space, seed, trials, 1, noisy=True)


class Judge:
    """Scores runs on one task: 0 = the best known, 1 = random search's median."""

    def __init__(self, section: str, task: Task, cache: Cache, by_chance: Floats) -> None:
        """Volumes reach to the median of each measure over points found by chance."""
        self._section, self._task, self._cache = section, task, cache
        if section == "noise":
            self._known = cache.all(task, "truth")[:, 0]
            self._best = float(self._known.min())
            return
        self._all = cache.all(task, "values")
        self._reference = np.median(by_chance, axis=0)
        self._worst = self._best = 0.0
        if section == "limits":
            inside = self._all[self._is_feasible(self._all)]
            self._best = float(inside[:, 0].min())
            self._worst = float(np.median(inside[:, 0]))
        else:
            self._best = -hypervolume(self._all, self._reference)

    def loss(self, run: Run, trials: int) -> float:
        """Less is better: a hypervolume with its sign turned, or a loss."""
        if self._section == "noise":
            return self._cache.truth(self._task, run.chosen[str(trials)])
        found = np.array(run.found[:trials])
        if self._section == "front":
            return -hypervolume(found, self._reference)
        inside = found[self._is_feasible(found)]
        # Who finds nothing feasible is as good as who takes any feasible point.
        return min(float(inside[:, 0].min(initial=np.inf)), self._worst)

    def score(self, run: Run, trials: int, by_chance: float) -> float:
        return (self.loss(run, trials) - self._best) / (by_chance - self._best)

    def _is_feasible(self, found: Floats) -> np.ndarray:
        return np.asarray((found[:, 1:] <= self._task.limits).all(axis=1))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--section", default="front", choices=("front", "limits", "noise"))
    parser.add_argument("--methods", default="random,auto,nsga-ii,optuna-tpe,optuna-nsga2")
    parser.add_argument("--tasks", default="", help="beginnings of names; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--at", default="50", help="also score after so many trials, by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    wanted = tuple(options.tasks.split(","))
    tasks = [
        task
        for task in TASKS.values()
        if task.noisy == (options.section == "noise") and task.name.startswith(wanted)
    ]
    at = sorted({*(int(each) for each in options.at.split(",") if each), options.trials})
    methods = options.methods.split(",")
    cache = Cache(folder())
    runs: dict[tuple[str, str, int], Run] = {}
    for task, method in product(tasks, dict.fromkeys(["random", *methods])):
        for seed in range(
            max(options.seeds, _RANDOM_RUNS) if method == "random" else options.seeds
        ):
            run = play(options.section, method, task, seed, options.trials, at, cache)
            runs[method, task.name, seed] = run
        print(f"{task.name} {method} {run.cpu_ms:.0f} ms", file=sys.stderr, flush=True)
    document = {}
    for trials in at:
        document[str(trials)] = _report(options, tasks, methods, runs, trials, cache)
    if options.out:
        options.out.write_text(json.dumps(document))
    return 0


def _report(
    options: argparse.Namespace,
    tasks: list[Task],
    methods: list[str],
    runs: dict[tuple[str, str, int], Run],
    trials: int,
    cache: Cache,
) -> dict[str, object]:
    for task in tasks if options.section == "noise" else ():
        # Whatever anybody has chosen is judged, so that the best known is the same for all.
        for run in (run for run in runs.values() if run.task == task.name):
            for chosen in run.chosen.values():
                cache.truth(task, chosen)
    judges = {}
    for task in tasks:
        random_runs = [r for r in runs.values() if (r.method, r.task) == ("random", task.name)]
        found = np.concatenate([np.array(run.found) for run in random_runs])
        judges[task.name] = Judge(options.section, task, cache, found)
    by_chance = {
        name: float(
            np.median(
                [j.loss(r, trials) for r in runs.values() if (r.method, r.task) == ("random", name)]
            )
        )
        for name, j in judges.items()
    }
    scores = {
        method: np.array(
            [
                [
                    judges[t.name].score(runs[method, t.name, seed], trials, by_chance[t.name])
                    for seed in range(options.seeds)
                ]
                for t in tasks
            ]
        )
        for method in methods
    }
    print(f"\n{options.section}, after {trials} trials, {len(tasks)} tasks, {options.seeds} seeds")
    print(" " * 20 + "".join(f"{method[-13:]:>14}" for method in methods))
    for i, task in enumerate(tasks):
        print(f"{task.name:20}" + "".join(f"{scores[m][i].mean():14.3f}" for m in methods))
    table = summaries(scores)
    print(f"{'method':24} {'score':>6} {'95 % interval':>16} {'rank':>6} {'CPU ms':>8}")
    for method, each in sorted(table.items(), key=lambda item: item[1].mean):
        cpu = np.mean([run.cpu_ms for run in runs.values() if run.method == method])
        interval = f"[{each.low:.2f}, {each.high:.2f}]"
        print(
            f"{method:24} {each.mean:6.3f} {interval:>16} {each.rank:6.2f} {cpu:8.1f}", flush=True
        )
    return {
        method: {**asdict(each), "scores": scores[method].tolist()}
        for method, each in table.items()
    }


if __name__ == "__main__":
    sys.exit(main())
