"""Warm against cold, with Optuna's own way beside them; the full comparison is run.py's.

Lengthen with KEEPTUNE_BENCH_SEEDS.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.warm_start import run
from tests.bench.warm_start.players import PLAYERS

SEEDS = os.environ.get("KEEPTUNE_BENCH_SEEDS", "2")


@pytest.mark.bench
def test_warm_start() -> None:
    print()
    assert run.main(["--seeds", SEEDS, "--methods", ",".join(PLAYERS)]) == 0
