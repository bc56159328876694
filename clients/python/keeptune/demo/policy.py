"""What is wanted for the digit classifier, as an operator would write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "digits"
POLICY = "digits"


def write_policy(
    folder: Path, *, training: Path, evaluation: Path, seed: int, trials: int, sampling_rate: float
) -> Path:
    """Writes policy.yaml; `keeptune policy apply -f` takes it."""
    policy = {
        "name": f"policies/{POLICY}",
        "model": f"models/{MODEL}",
        "trainer": "trainers/image",
        "task": "classification",
        "data": {
            "training": [{"uri": str(training)}],
            "evaluation": [{"uri": str(evaluation), "display_name": "original"}],
            "fresh": {"enabled": True, "min_rows": 1800, "max_wait": "300s"},
        },
        "search": {
            "budget": {"max_trials": trials},
            "pruning": {"asha": {"min_steps": 8, "reduction_factor": 2}},
            "seed": seed,
        },
        "training": {"parallelism": 2, "max_epochs": 16, "recipe": {"augmentation": True}},
        "gate": {
            "rules": [
                # Never much worse on the world it was first made for...
                {"metric": "accuracy", "dataset": "original", "min": 0.9},
                {"metric": "accuracy", "dataset": "original", "max_regression": 0.04},
                # ...and clearly better on the world as it is now.
                {"metric": "accuracy", "dataset": "recent", "require_improvement": True},
                {"metric": "latency_p99_ms", "max": 20.0},
            ]
        },
        "rollout": {"bake": "5s", "min_bake_requests": 100},
        "monitoring": {
            "sampling_rate": sampling_rate,
            "drift": {"average_run_length": 50000},
            "capture": {"enabled": True},
        },
        "cooldown": "30s",
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    return path
