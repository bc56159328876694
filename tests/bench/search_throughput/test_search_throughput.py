"""The short form of run.py: everything once, without peers.

Lengthen with KEEPTUNE_BENCH_SECONDS.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.search_throughput import run

SECONDS = os.environ.get("KEEPTUNE_BENCH_SECONDS", "3")


@pytest.mark.bench
def test_search_throughput() -> None:
    print()
    short = ("--rounds", "1", "--trials", "10000", "--clients", "200")
    assert run.main(["--seconds", SECONDS, *short]) == 0
