"""The page on optimizers: its plugin works as it stands there, and every method has a section."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from keeptune.search.optimizers import registry
from keeptune.search.optimizers.plugins import GROUP

PAGE = (Path(__file__).parents[4] / "docs" / "optimizers.md").read_text()


def block(language: str, first_line: str) -> str:
    found = re.findall(rf"```{language}\n(# {re.escape(first_line)}\n.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_the_plugin_conforms_and_its_test_passes(tmp_path: Path) -> None:
    project = tomllib.loads(block("toml", "pyproject.toml"))
    assert project["project"]["entry-points"] == {GROUP: {"hill-climbing": "hill_climbing:METHOD"}}
    (tmp_path / "hill_climbing.py").write_text(block("python", "hill_climbing.py"))
    (tmp_path / "test_it.py").write_text(block("python", "test_hill_climbing.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout


def test_every_method_of_ours_has_a_section() -> None:
    sections = re.split(r"[ ,]+", " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)))
    ours = [name for name in (a.name for a in registry.algorithms()) if "/" not in name]
    assert ours
    for name in ours:
        assert f"`{name}`" in PAGE
        assert name in sections
