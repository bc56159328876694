"""The policy of the README's tour, checked by a real control plane."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parents[3] / "docs" / "tour"


def test_the_policy_of_the_tour_is_valid(keeptune: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(TOUR / "policy.yaml", tmp_path)
    subprocess.run([sys.executable, TOUR / "data.py"], cwd=tmp_path, check=True, timeout=60)
    dry = keeptune("policy", "apply", "-f", "policy.yaml", "--dry-run")
    assert "valid; nothing was changed" in dry.err
    assert keeptune("policy", "show", "digits", status=3).out == ""
