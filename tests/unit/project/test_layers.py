"""The linter of the layers must bite: a planted violation of each contract fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE_ROOTS = ("protos", "services", "agent", "clients/python")
LINTER = Path(sys.executable).with_name("lint-imports")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    # The copy stands before the editable install, so that its portions of the namespace win.
    paths = os.pathsep.join(str(tree / root) for root in NAMESPACE_ROOTS)
    return subprocess.run(
        [LINTER, "--config", tree / ".importlinter", "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of everything the linter reads."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / ".importlinter", copy)
    for root in NAMESPACE_ROOTS:
        shutil.copytree(
            ROOT / root / "keeptune",
            copy / root / "keeptune",
            ignore=shutil.ignore_patterns("__pycache__", "node_modules"),
        )
    return copy


def test_the_tree_keeps_its_layers(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("package", "statement", "contract"),
    [
        (
            "services/keeptune/search",
            "import keeptune.training",
            "programs never import each other",
        ),
        ("services/keeptune/runtime", "import keeptune.search", "composition > programs > runtime"),
        ("services/keeptune/evaluation", "import torch", "torch is imported in training only"),
        ("agent/keeptune/agent", "import pandas", "the agent stays light"),
        ("clients/python/keeptune/cli", "import keeptune.search", "reach the services over gRPC"),
        ("services/keeptune/search/model.py", "import sqlalchemy", "a model knows no gRPC, no SQL"),
    ],
)
def test_a_planted_violation_fails(tree: Path, package: str, statement: str, contract: str) -> None:
    target = tree / package
    planted = target if target.suffix else target / "planted_violation.py"
    before = planted.read_bytes() if planted.exists() else None
    planted.write_bytes((before or b"") + f"\n{statement}\n".encode())
    try:
        result = lint(tree)
    finally:
        if before is None:
            planted.unlink()
        else:
            planted.write_bytes(before)
    assert result.returncode != 0
    broken = [line for line in result.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), result.stdout
