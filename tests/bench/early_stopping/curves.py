"""Every configuration of a task, trained to its end once: its curve, and the CPU time of a step.

Kept in one SQLite file outside the repository, in the folder KEEPTUNE_BENCH_CACHE, else
~/.cache/keeptune/early-stopping. `python -m tests.bench.early_stopping.curves` trains what is
missing (about half an hour).
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keeptune.search.space import Assignment
from tests.bench.early_stopping.tasks import TASKS, Task

VARIABLE = "KEEPTUNE_BENCH_CACHE"
_TABLE = """
    CREATE TABLE IF NOT EXISTS curves (
        version TEXT, task TEXT, parameters TEXT, losses TEXT NOT NULL, seconds REAL NOT NULL,
        PRIMARY KEY (version, task, parameters)
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Curve:
    """The loss after each step, and the CPU seconds of one step."""

    losses: tuple[float, ...]
    seconds: float


def key_of(parameters: Assignment) -> str:
    return json.dumps(dict(parameters), sort_keys=True)


def configurations(task: Task) -> Iterator[Assignment]:
    return task.space.grid(levels=1)


@functools.cache
def table(name: str) -> dict[str, Curve]:
    """All curves of a task by `key_of` their parameters. Trains those that are missing."""
    task = TASKS[name]
    database = _open()
    version = f"{task.revision}/scikit-learn {importlib.metadata.version('scikit-learn')}"
    rows = database.execute(
        "SELECT parameters, losses, seconds FROM curves WHERE version = ? AND task = ?",
        (version, name),
    )
    found = {key: Curve(tuple(json.loads(losses)), seconds) for key, losses, seconds in rows}
    for parameters in configurations(task):
        key = key_of(parameters)
        if key not in found:
            curve = found[key] = _train(task, parameters)
            row = (version, name, key, json.dumps(curve.losses), curve.seconds)
            database.execute("INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    return found


def _train(task: Task, parameters: Assignment) -> Curve:
    started = time.thread_time()
    losses = tuple(itertools.islice(task.curve(parameters), task.steps))
    return Curve(losses, (time.thread_time() - started) / task.steps)


def _open() -> sqlite3.Connection:
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else Path.home() / ".cache" / "keeptune" / "early-stopping"
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "curves.sqlite", timeout=60.0, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")
    database.executescript(_TABLE)
    return database


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TASKS:
        print(f"{chosen}: {len(table(chosen))} curves", flush=True)
