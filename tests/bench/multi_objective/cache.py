"""What was evaluated before, beside the cache of the search-quality benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from keeptune.search.space import Assignment
from tests.bench.multi_objective.tasks import Task

Floats = np.ndarray[Any, np.dtype[np.float64]]

_TABLES = """
    CREATE TABLE IF NOT EXISTS evaluations (
        version TEXT, kind TEXT, parameters TEXT, found TEXT NOT NULL,
        PRIMARY KEY (version, kind, parameters)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
"""


class Cache:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "multi-objective.sqlite"
        self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def values(self, task: Task, parameters: Assignment) -> tuple[float, ...]:
        return self._known(task, "values", parameters, lambda: task.values(parameters))

    def on_split(self, task: Task, parameters: Assignment, split: int) -> float:
        kind = f"split {split}"
        return self._known(task, kind, parameters, lambda: (task.on_split(parameters, split),))[0]

    def truth(self, task: Task, parameters: Assignment) -> float:
        return self._known(task, "truth", parameters, lambda: (task.truth(parameters),))[0]

    def all(self, task: Task, kind: str) -> Floats:
        """Everything known of a task: (evaluations, measures)."""
        rows = self._db.execute(
            "SELECT found FROM evaluations WHERE version = ? AND kind = ?", (_version(task), kind)
        )
        return np.array([json.loads(row[0]) for row in rows])

    def run(self, key: list[Any]) -> dict[str, Any] | None:
        row = self._db.execute("SELECT run FROM runs WHERE key = ?", (json.dumps(key),)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, key: list[Any], run: dict[str, Any]) -> None:
        found = json.dumps(key), json.dumps(run)
        self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?)", found)

    def _known(
        self, task: Task, kind: str, parameters: Assignment, evaluate: Any
    ) -> tuple[float, ...]:
        key = _version(task), kind, json.dumps(dict(parameters), sort_keys=True)
        row = self._db.execute(
            "SELECT found FROM evaluations WHERE version = ? AND kind = ? AND parameters = ?", key
        ).fetchone()
        if row is not None:
            return tuple(json.loads(row[0]))
        found: tuple[float, ...] = evaluate()
        insert = "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)"
        self._db.execute(insert, (*key, json.dumps(found)))
        return found


def _version(task: Task) -> str:
    return f"{task.name} {task.revision}/scikit-learn {importlib.metadata.version('scikit-learn')}"
