"""`auto` with the forecast against Optuna's Hyperband and Ray Tune's ASHA, in one run.

Lengthen with KEEPTUNE_BENCH_SEEDS, and choose with KEEPTUNE_BENCH_TASKS.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.early_stopping import run

SEEDS = os.environ.get("KEEPTUNE_BENCH_SEEDS", "2")
TASKS = os.environ.get("KEEPTUNE_BENCH_TASKS", "mlp-wine,boosting-cancer,boosting-diabetes")


@pytest.mark.bench
def test_early_stopping() -> None:
    print()
    assert run.main(["--seeds", SEEDS, "--tasks", TASKS]) == 0
