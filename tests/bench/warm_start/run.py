"""Does what an earlier study has taught help the next one, and what does it cost where it misleads?

    python tests/bench/warm_start/run.py --seeds 5
    python tests/bench/warm_start/run.py --methods cold,warm --kinds related,adverse --seeds 10

Evaluations and earlier studies are kept as those of tests/bench/search_quality are, and so are the
runs of public tools.
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
from collections.abc import Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402

import numpy as np  # noqa: E402

from tests.bench.search_quality import cache, references  # noqa: E402
from tests.bench.search_quality.tasks import TASKS  # noqa: E402
from tests.bench.warm_start.pairs import KINDS, PAIRS, Pair, Source  # noqa: E402
from tests.bench.warm_start.players import PLAYERS, Game, History, cold  # noqa: E402

SOURCE_TRIALS = 40
_SOURCE_SEED = 1000
_RESAMPLES = 4000


@dataclass(frozen=True)
class Score:
    """Of one run at several numbers of trials; 0 = best known, 1 = random search's median."""

    pair: Pair
    seed: int
    at: dict[int, float]


def history_of(source: Source, seed: int, store: cache.Cache) -> History:
    """What `auto` found on the source, played once; then its losses as the source twists them."""
    key = ("earlier study", source.played_as, _SOURCE_SEED + seed, SOURCE_TRIALS)
    kept = store.run(next(iter(TASKS)), key)
    if kept is None:
        game = Game(source.task.space, source.task.loss, _SOURCE_SEED + seed, SOURCE_TRIALS)
        found = cold(game)
        kept = {"points": [dict(p) for p in found.points], "losses": list(found.losses)}
        store.keep(next(iter(TASKS)), key, kept)
    return History(tuple(kept["points"]), tuple(source.warp(np.array(kept["losses"])).tolist()))


def played(
    method: str, pair: Pair, seed: int, trials: int, budgets: Sequence[int], store: cache.Cache
) -> Score:
    task = TASKS[pair.target]
    # A cold run has nothing to do with the earlier study; it is the same for all of the task.
    key = ("warm start", method, "" if method in _COLD else pair.name, seed, trials)
    kept = store.run(task.name, key) if method.startswith("optuna") else None
    if kept is None:
        histories = [history_of(source, seed, store) for source in pair.sources]
        found = PLAYERS[method](
            Game(task.space, lambda point: store.loss(task, point), seed, trials, histories)
        )
        kept = {"losses": list(found.losses)}
        if method.startswith("optuna"):
            store.keep(task.name, key, kept)
    losses = kept["losses"]
    scales = {at: references.scale(task, at, min(losses), store) for at in budgets}
    return Score(pair, seed, {at: scales[at].score(min(losses[:at])) for at in budgets})


_COLD = ("cold", "optuna-tpe")


def table(scores: dict[str, list[Score]], budgets: Sequence[int]) -> str:
    """Mean scores by kind, and what warm runs gain or lose on cold ones of the same seeds."""
    lines = []
    for kind in [*dict.fromkeys(s.pair.kind for s in next(iter(scores.values()))), "all"]:
        lines.append(f"\n{kind}" + "".join(f"{f'{at} trials':>26}" for at in budgets))
        for method, found in scores.items():
            cells = []
            for at in budgets:
                mean, low, high = interval(_grid(found, kind, at))
                cells.append(f"{f'{mean:.2f} [{low:.2f}, {high:.2f}]':>26}")
            lines.append(f"  {method:26}"[: 2 + 26] + "".join(cells))
        if {"cold", "warm"} <= set(scores):
            cells = []
            for at in budgets:
                low, high = ratio_interval(
                    _grid(scores["warm"], kind, at), _grid(scores["cold"], kind, at)
                )
                ratio = (
                    _grid(scores["warm"], kind, at).mean() / _grid(scores["cold"], kind, at).mean()
                )
                cells.append(f"{f'{ratio:.2f} [{low:.2f}, {high:.2f}]':>26}")
            lines.append("  warm / cold".ljust(28) + "".join(cells))
    return "\n".join(lines)


def _grid(scores: Sequence[Score], kind: str, at: int) -> np.ndarray:
    """Scores (pairs, seeds) of a kind."""
    rows: dict[str, list[float]] = {}
    for score in scores:
        if kind in ("all", score.pair.kind):
            rows.setdefault(f"{score.pair.kind} {score.pair.name}", []).append(score.at[at])
    return np.array(list(rows.values()))


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and the 95 % interval of a bootstrap over pairs and, within each, over seeds."""
    low, high = np.quantile(_resampled(values), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def ratio_interval(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The same of the ratio of two means over the same pairs and seeds."""
    low, high = np.quantile(_resampled(values) / _resampled(others), [0.025, 0.975])
    return float(low), float(high)


def _resampled(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    pairs, seeds = values.shape
    chosen = rng.integers(pairs, size=(_RESAMPLES, pairs, 1))
    drawn = rng.integers(seeds, size=(_RESAMPLES, pairs, seeds))
    return np.asarray(values[chosen, drawn].mean(axis=(1, 2)))


def by_pair(scores: dict[str, list[Score]], at: int) -> str:
    lines = [" " * 74 + "".join(f"{method[:12]:>13}" for method in scores)]
    for pair in dict.fromkeys(score.pair for score in next(iter(scores.values()))):
        means = (
            np.mean([score.at[at] for score in found if score.pair == pair])
            for found in scores.values()
        )
        lines.append(f"{pair.kind:9}{pair.name:65}" + "".join(f"{mean:13.2f}" for mean in means))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="cold,warm", help=f"of {','.join(PLAYERS)}")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--at", default="10,20", help="also score after this many trials")
    parser.add_argument("--out", type=Path, help="all scores as JSON")
    options = parser.parse_args(arguments)
    budgets = sorted({*map(int, filter(None, options.at.split(","))), options.trials})
    store = cache.Cache(cache.folder())
    scores: dict[str, list[Score]] = {method: [] for method in options.methods.split(",")}
    cold_runs: dict[tuple[str, str, int], Score] = {}
    for pair in PAIRS:
        if pair.kind not in options.kinds.split(","):
            continue
        for seed in range(options.seeds):
            for method, found in scores.items():
                key = (method, pair.target, seed)
                if key in cold_runs:
                    found.append(Score(pair, seed, cold_runs[key].at))
                    continue
                score = played(method, pair, seed, options.trials, budgets, store)
                found.append(score)
                if method in _COLD:
                    cold_runs[key] = score
    print(by_pair(scores, options.trials))
    print(table(scores, budgets), flush=True)
    if options.out:
        document = {
            method: [
                {"kind": s.pair.kind, "pair": s.pair.name, "seed": s.seed, "at": s.at}
                for s in found
            ]
            for method, found in scores.items()
        }
        options.out.write_text(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
