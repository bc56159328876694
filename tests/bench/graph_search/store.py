"""Losses that were evaluated before, in one SQLite file outside the repository."""

from __future__ import annotations

import importlib.metadata
import sqlite3
from pathlib import Path

from keeptune.search import assignments
from keeptune.search.space import Assignment
from tests.bench.graph_search.tasks import Task
from tests.bench.search_quality.cache import folder

__all__ = ["Store", "folder"]

_TABLE = """
    CREATE TABLE IF NOT EXISTS losses (
        task TEXT, parameters TEXT, loss REAL NOT NULL, PRIMARY KEY (task, parameters)
    ) WITHOUT ROWID
"""


class Store:
    """Any number of processes may use one at once."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path / "graphs.sqlite", timeout=60.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # Losing the last evaluations to a power cut costs only time.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(_TABLE)

    def loss(self, task: Task, parameters: Assignment) -> float:
        """Of the task at the parameters, evaluated if that has not been done before."""
        key = _version(task), assignments.encode(parameters)
        row = self._db.execute(
            "SELECT loss FROM losses WHERE task = ? AND parameters = ?", key
        ).fetchone()
        if row is not None:
            return float(row[0])
        loss = task.loss(parameters)
        self._db.execute("INSERT OR REPLACE INTO losses VALUES (?, ?, ?)", (*key, loss))
        return loss

    def best(self, task: Task) -> float:
        """The lowest loss that anybody has seen here."""
        query = "SELECT min(loss) FROM losses WHERE task = ?"
        return float(self._db.execute(query, (_version(task),)).fetchone()[0])


def _version(task: Task) -> str:
    """Evaluations of another one mean something else."""
    return f"{task.name}/{task.revision}/{importlib.metadata.version('scikit-learn')}"
