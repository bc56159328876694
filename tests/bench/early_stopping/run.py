"""Time to the final best, by tool: its searcher with its way of stopping trials.

    python -m tests.bench.early_stopping.run --seeds 10 --plot regret.png
    python -m tests.bench.early_stopping.run --tools "auto + forecast,optuna tpe + hyperband"

See README.md for what is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.early_stopping import report
from tests.bench.early_stopping.curves import Curve, table
from tests.bench.early_stopping.report import Run
from tests.bench.early_stopping.simulation import Finished, play
from tests.bench.early_stopping.tasks import TASKS
from tests.bench.early_stopping.tools import TOOLS

_PEERS = ("optuna tpe + hyperband", "ray random + asha", "ray optuna + asha")
_DEFAULT = ("auto + forecast", *_PEERS, "auto + none", "random + forecast", "random + none")
WORKERS = 4
# In whole trainings' time.
UNTIL = 30.0
# Trials of a study; who has had them in vain begins anew, as the clock runs on.
MOST = 200
# Apart from any number of seeds.
_ANEW = 100_000


def wanted(curves: dict[str, Curve]) -> float:
    """The final best: within 5 % of the way from the best to the middle, or of the best 0.5 %."""
    ends = sorted(curve.losses[-1] for curve in curves.values())
    near = ends[0] + 0.05 * (ends[len(ends) // 2] - ends[0])
    return max(near, ends[max(0, int(0.005 * len(ends)) - 1)])


def run(task: str, name: str, seed: int) -> Run:
    curves = table(task)
    goal = wanted(curves)
    started = time.process_time()
    trials: list[Finished] = []
    while not trials or (trials[-1].time < UNTIL and not _is_reached(trials, goal)):
        begun = trials[-1].time if trials else 0.0
        tool = TOOLS[name](TASKS[task].space, TASKS[task].steps, seed)
        study = list(play(tool, curves, WORKERS, UNTIL - begun, goal, MOST))
        trials += [replace(each, time=begun + each.time) for each in study]
        seed += _ANEW
        if len(study) < MOST:
            break
    spent = time.process_time() - started
    judged = [each for each in trials if each.best < float("inf")]
    winners = [each for each in judged if each.loss < each.best]
    best, path = float("inf"), []
    for each in trials:
        if each.completed and each.loss < best:
            best = each.loss
            path.append((each.time, best))
    reached = _is_reached(trials, goal)
    return Run(
        task=task,
        tool=name,
        seed=seed % _ANEW,
        reached=reached,
        time=trials[-1].time if reached else UNTIL,
        trials=len(trials),
        stopped=sum(not each.completed for each in judged),
        winners=len(winners),
        wrongly_stopped=sum(not each.completed for each in winners),
        path=tuple(path),
        cpu=spent,
    )


def _is_reached(trials: Sequence[Finished], goal: float) -> bool:
    return bool(trials) and trials[-1].completed and trials[-1].loss <= goal


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--tools", default=",".join(_DEFAULT))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="JSON lines; what stands there is not run again")
    parser.add_argument("--plot", type=Path, help="a picture of the regret over time")
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    runs = report.read(chosen.out) if chosen.out and chosen.out.exists() else []
    known = {(each.task, each.tool, each.seed) for each in runs}
    for seed in range(chosen.seeds):
        for task in chosen.tasks.split(","):
            for tool in chosen.tools.split(","):
                if (task, tool, seed) in known:
                    continue
                runs.append(run(task, tool, seed))
                if chosen.out:
                    with chosen.out.open("a") as file:
                        file.write(json.dumps(runs[-1].as_json()) + "\n")
    print(report.text(runs, peers=_PEERS))
    if chosen.plot:
        goals = {task: wanted(table(task)) for task in {each.task for each in runs}}
        report.plot(runs, chosen.plot, goals, UNTIL)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
