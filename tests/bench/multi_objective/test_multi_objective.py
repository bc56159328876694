"""Several objectives, limits and noise against public tools; the full comparison is run.py's."""

from __future__ import annotations

import pytest

from tests.bench.multi_objective import run


@pytest.mark.bench
@pytest.mark.parametrize(
    ("section", "methods"),
    [
        ("front", "random,auto,nsga-ii,optuna-tpe,optuna-nsga2"),
        ("limits", "random,auto,optuna-tpe,optuna-nsga2"),
        ("noise", "random,auto,auto/noisy,optuna-tpe"),
    ],
)
def test_several_objectives_limits_and_noise(section: str, methods: str) -> None:
    print()
    arguments = ["--section", section, "--methods", methods, "--seeds", "2", "--trials", "50"]
    assert run.main([*arguments, "--at", "25"]) == 0
