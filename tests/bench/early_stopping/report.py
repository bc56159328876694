"""What the runs come to: times with intervals, ratios against the peers, wrongly stopped trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Run:
    """`path` = (time, best final loss) whenever that fell; `time` = to the final best."""

    task: str
    tool: str
    seed: int
    reached: bool
    time: float
    trials: int
    stopped: int
    winners: int
    wrongly_stopped: int
    path: tuple[tuple[float, float], ...]
    cpu: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read(path: Path) -> list[Run]:
    found = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        row["path"] = tuple((time, loss) for time, loss in row["path"])
        found.append(Run(**row))
    return found


def text(runs: Sequence[Run], peers: Iterable[str]) -> str:
    """One line a tool: the mean over tasks of the mean time; then ratios of `auto + forecast`."""
    tasks = _names(run.task for run in runs)
    tools = _names(run.tool for run in runs)
    lines = [
        f"{'time to the final best, in whole trainings':44s}"
        + "".join(f"{task[:18]:>19s}" for task in tasks)
        + "     all   95 % interval  reached  trials  wrongly stopped"
    ]
    for tool in tools:
        own = [run for run in runs if run.tool == tool]
        times = _times(own, tasks)
        low, high = np.quantile(_resampled(times, seed=0), [0.025, 0.975])
        row = "".join(f"{each.mean():19.1f}" for each in times)
        stopped, wrong = _sum(own, "stopped"), _sum(own, "wrongly_stopped")
        share = f"{wrong / stopped:.1%} of {stopped}" if stopped else "-"
        lines.append(
            f"{tool:44s}{row}{_mean(times):8.1f}   {low:5.1f} to {high:4.1f}"
            f"{sum(run.reached for run in own):5d}/{len(own)}"
            f"{np.mean([run.trials for run in own]):8.0f}  {share}"
            f", {wrong} of {_sum(own, 'winners')} winners"
        )
    ours = _times([run for run in runs if run.tool == "auto + forecast"], tasks)
    for peer in peers:
        theirs = _times([run for run in runs if run.tool == peer], tasks)
        if not ours or not theirs:
            continue
        ratios = _resampled(ours, seed=1) / _resampled(theirs, seed=2)
        low, high = np.quantile(ratios, [0.025, 0.975])
        lines.append(
            f"auto + forecast / {peer}: {_mean(ours) / _mean(theirs):.2f} "
            f"[{low:.2f}, {high:.2f}] of its time"
        )
    return "\n".join(lines)


def plot(runs: Sequence[Run], path: Path, goals: dict[str, float], until: float) -> None:
    """The regret over time, 0 = the final best, 1 = random search's first whole trial."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    grid = np.linspace(0, until, 400)
    firsts = {
        task: float(np.median([run.path[0][1] for run in runs if run.task == task and run.path]))
        for task in _names(run.task for run in runs)
    }
    figure, axes = plt.subplots(figsize=(8, 5))
    for tool in _names(run.tool for run in runs):
        curves = []
        for run in runs:
            if run.tool != tool:
                continue
            times = [0.0] + [time for time, _ in run.path]
            losses = [firsts[run.task]] + [loss for _, loss in run.path]
            at = np.array(losses)[np.searchsorted(times, grid, side="right") - 1]
            spread = firsts[run.task] - goals[run.task]
            curves.append(np.clip((at - goals[run.task]) / spread, 0.0, 1.0))
        axes.plot(grid, np.mean(curves, axis=0), label=tool)
    axes.set_xlabel("time, in whole trainings of one worker (four work)")
    axes.set_ylabel("mean regret; 0 = the final best")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _names(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))


def _times(runs: Sequence[Run], tasks: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """By task; those that have runs."""
    by_task = [np.array([run.time for run in runs if run.task == task]) for task in tasks]
    return [times for times in by_task if len(times)]


def _mean(times: list[np.ndarray[Any, Any]]) -> float:
    return float(np.mean([each.mean() for each in times]))


def _resampled(times: list[np.ndarray[Any, Any]], seed: int) -> np.ndarray[Any, Any]:
    """The mean over tasks, with other seeds drawn from those there are."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(each, (_RESAMPLES, len(each))).mean(axis=1) for each in times]
    return np.mean(means, axis=0)


def _sum(runs: Iterable[Run], field: str) -> int:
    return sum(getattr(run, field) for run in runs)
