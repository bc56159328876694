"""What was evaluated and played before, in one SQLite file outside the repository.

Any number of processes may use it at once. Its folder is KEEPTUNE_BENCH_CACHE, else
~/.cache/keeptune/search-quality.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keeptune.search.space import Assignment
from tests.bench.search_quality.tasks import TASKS, Task

VARIABLE = "KEEPTUNE_BENCH_CACHE"
_TABLES = """
    CREATE TABLE IF NOT EXISTS evaluations (
        version TEXT, task TEXT, parameters TEXT, loss REAL NOT NULL,
        PRIMARY KEY (version, task, parameters)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS runs (
        version TEXT, key TEXT, run TEXT NOT NULL, PRIMARY KEY (version, key)
    ) WITHOUT ROWID;
"""


def folder() -> Path:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "keeptune" / "search-quality"


@functools.cache
def version(task: str) -> str:
    """Evaluations of another one mean something else."""
    return f"{TASKS[task].revision}/scikit-learn {importlib.metadata.version('scikit-learn')}"


class Cache:
    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path / "cache.sqlite", timeout=60.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # Losing the last evaluations to a power cut costs only time.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def loss(self, task: Task, parameters: Assignment) -> float:
        """Of the task at the parameters, evaluated if that has not been done before."""
        key = version(task.name), task.name, json.dumps(dict(parameters), sort_keys=True)
        row = self._db.execute(
            "SELECT loss FROM evaluations WHERE version = ? AND task = ? AND parameters = ?", key
        ).fetchone()
        if row is not None:
            return float(row[0])
        loss = task.loss(parameters)
        self._db.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)", (*key, loss))
        return loss

    def best(self, task: str) -> float | None:
        """The lowest loss that anybody has seen here."""
        row = self._db.execute(
            "SELECT min(loss) FROM evaluations WHERE version = ? AND task = ?",
            (version(task), task),
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def run(self, task: str, key: Iterable[object]) -> dict[str, Any] | None:
        """A run on the task that was kept."""
        row = self._db.execute(
            "SELECT run FROM runs WHERE version = ? AND key = ?", (version(task), _text(task, key))
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, task: str, key: Iterable[object], run: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?)",
            (version(task), _text(task, key), json.dumps(run)),
        )


def _text(task: str, key: Iterable[object]) -> str:
    return json.dumps([task, *(str(part) for part in key)])
