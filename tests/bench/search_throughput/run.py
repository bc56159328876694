"""How fast the search service is, against its goals.

    python -m tests.bench.search_throughput.run --optuna PYTHON --vizier PYTHON
    python -m tests.bench.search_throughput.run --only growth,crowd,latency
    python -m tests.bench.search_throughput.run --seconds 3 --rounds 1 --only rates

PYTHON is an interpreter that has the peer; see README.md for how to make one. Everything runs on
this machine, so that the figures themselves say little and the ratios within a run more.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median

from tests.bench.search_throughput import growth, rates
from tests.bench.search_throughput.load import WAYS
from tests.bench.search_throughput.rates import FLOOR, OWN, Peers, Rates

PARTS = ("rates", "growth", "crowd", "latency")
CLIENTS = (8, 32)

_TIMES_THE_PEER = 30.0
_OF_THE_FLOOR = 0.5
_TIMES_ITS_CPU = 2.0
_GROWN_CPU = 1.2
_BYTES_A_TRIAL = 1024.0
_LATENCY = 0.050


class Goals:
    """Prints each goal with what was measured, and counts those that were missed."""

    def __init__(self) -> None:
        self.missed = 0

    def judge(self, what: str, *, met: bool, found: str) -> None:
        self.missed += not met
        print(f"  {'met   ' if met else 'MISSED'}  {what}: {found}", flush=True)


def judge_rates(found: Rates, goals: Goals) -> None:
    for clients in CLIENTS:
        peer = found.best_peer(clients)
        for who in OWN:
            fused = (who, "fused", clients)
            if found.median(fused) is None:
                continue
            if peer is not None and (ratio := found.ratio(fused, peer)) is not None:
                goals.judge(
                    f"{who}, fused, {clients} clients: at least {_TIMES_THE_PEER:.0f} times "
                    f"the best peer ({peer[0]})",
                    met=ratio.pairs >= _TIMES_THE_PEER,
                    found=f"{ratio.pairs:.1f} times",
                )
            for way in WAYS:
                ratio = found.ratio((who, way, clients), (FLOOR, way, clients))
                if ratio is None:
                    continue
                name = f"{who}, {way}, {clients} clients"
                goals.judge(
                    f"{name}: at least {_OF_THE_FLOOR} of the floor's pairs/s",
                    met=ratio.pairs >= _OF_THE_FLOOR,
                    found=f"{ratio.pairs:.2f}",
                )
                goals.judge(
                    f"{name}: at most {_TIMES_ITS_CPU:.0f} times the floor's CPU a pair",
                    met=ratio.cpu <= _TIMES_ITS_CPU,
                    found=f"{ratio.cpu:.2f} times",
                )


def judge_growth(trials: int, seconds: float, goals: Goals) -> None:
    found = growth.growth(trials, seconds)
    goals.judge(
        f"CPU a pair at {found.trials} trials: at most {_GROWN_CPU} times that of a young study",
        met=found.many <= _GROWN_CPU * found.few,
        found=f"{found.many / found.few:.2f} times ({found.few:.2f} and {found.many:.2f} ms)",
    )
    goals.judge(
        "memory a trial: under 1 KiB",
        met=found.bytes_a_trial < _BYTES_A_TRIAL,
        found=f"{found.bytes_a_trial:.0f} bytes",
    )


def judge_crowd(clients: int, goals: Goals) -> None:
    found = growth.crowd(clients, each=3)
    goals.judge(
        f"{found.clients} clients at once: ids without a gap, no trial twice",
        met=not found.gaps and not found.doubled and found.completed == 3 * clients,
        found=f"{found.completed} completed, {found.gaps} gaps, {found.doubled} doubled, "
        f"{found.seconds:.1f} s",
    )


def judge_latency(goals: Goals) -> None:
    for workers in (8, 1):
        took = sorted(growth.latency(workers))
        middle = median(took)
        goals.judge(
            f"result to next trial of `auto` near 200 trials, {workers} workers: under 50 ms",
            met=middle < _LATENCY,
            found=f"median {1000 * middle:.0f} ms, 90 % {1000 * took[len(took) * 9 // 10]:.0f} ms",
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How fast the search service is.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--rounds", type=int, default=3, help="of all rows; medians count")
    parser.add_argument("--trials", type=int, default=100_000, help="of the long study")
    parser.add_argument("--clients", type=int, default=1000, help="of the crowd")
    parser.add_argument("--optuna", type=Path, help="an interpreter that has Optuna")
    parser.add_argument("--vizier", type=Path, help="an interpreter that has Vizier")
    given = parser.parse_args(arguments)
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(PARTS)}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in ("optuna", "vizier"):
        if getattr(given, name) is None:
            print(f"{name}: not measured, no --{name}")
    goals = Goals()
    if "rates" in parts:
        peers = Peers(given.optuna, given.vizier)
        found = rates.measure(CLIENTS, given.seconds, given.rounds, peers)
        print("medians")
        medians = Rates()
        for row in found.measured:
            if (rate := found.median(row)) is not None:
                medians.add(row, rate)
        print("goals")
        judge_rates(found, goals)
    if "growth" in parts:
        judge_growth(given.trials, given.seconds, goals)
    if "crowd" in parts:
        judge_crowd(given.clients, goals)
    if "latency" in parts:
        judge_latency(goals)
    print(f"{goals.missed} goals missed; load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
