"""`auto` against public tools, at both settings; the full comparison is run.py's.

Lengthen with KEEPTUNE_BENCH_SEEDS, and choose with KEEPTUNE_BENCH_METHODS.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.search_quality import run

SEEDS = os.environ.get("KEEPTUNE_BENCH_SEEDS", "2")
METHODS = os.environ.get("KEEPTUNE_BENCH_METHODS", "random,auto,nevergrad-OnePlusOne,optuna-tpe")


@pytest.mark.bench
@pytest.mark.parametrize(("trials", "batch"), [("50", "1"), ("128", "8")])
def test_search_quality(trials: str, batch: str) -> None:
    print()
    arguments = ("--methods", METHODS, "--seeds", SEEDS, "--trials", trials, "--batch", batch)
    assert run.main([*arguments, "--by-task"]) == 0
