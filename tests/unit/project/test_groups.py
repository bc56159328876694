"""Tests that share a Triton or a product run in one process of a parallel run."""

import subprocess
import sys
from pathlib import Path

_TESTS = """
import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(6))
def test_it(number):
    pass
"""


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    """Depends on pytest and pytest-xdist understanding each other."""
    (tmp_path / "test_group.py").write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup"]
    told = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    passed = [line for line in told.splitlines() if "PASSED" in line]
    assert len(passed) == 6, told
    assert len({line.split("]")[0] for line in passed}) == 1, told
