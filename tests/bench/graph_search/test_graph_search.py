"""Methods for graphs against random search, in one run."""

from __future__ import annotations

import pytest

from tests.bench.graph_search.run import compare, table
from tests.bench.graph_search.store import Store, folder
from tests.bench.graph_search.tasks import TASKS


@pytest.mark.bench
def test_neat_genetic_programming_and_auto_beat_random_search() -> None:
    methods = ["random", "regularized-evolution", "genetic-programming", "neat", "auto"]
    comparison = compare(methods, list(TASKS.values()), range(4), 60, 1, Store(folder()))
    print(f"\n{table(comparison)}")
    for method in ("genetic-programming", "neat", "auto"):
        assert comparison.summaries[method].mean < 0.8 * comparison.summaries["random"].mean
