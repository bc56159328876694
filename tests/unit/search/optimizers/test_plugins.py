"""Optimisers from other packages: found, run, and kept from doing harm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import (
    Adopting,
    Algorithm,
    Method,
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.plugins import GROUP, Plugins
from keeptune.search.optimizers.random_search import RandomSearch
from tests.unit.search.spaces import MIXED, NUMERIC

PLUGIN = '''
from keeptune.search.optimizers.base import Algorithm, Method, Suggestion


class Corner:
    """Always the lowest corner."""

    def __init__(self, problem):
        if problem.objectives > 1:
            raise ValueError("one objective only")
        self._space = problem.space
        self._told = 0

    def ask(self, number):
        return Suggestion(self._space.at({p.name: 0.0 for p in self._space.free}), "corner")

    def tell(self, result):
        if result.number == 13:
            raise RuntimeError("thirteen")


METHOD = Method(Algorithm("corner", "The lowest corner.", "nobody"), Corner)
OTHER_NAME = Method(Algorithm("edge", "", ""), Corner)
NO_METHOD = Corner
'''
POINTS = """
[keeptune.optimizers]
corner = corner_plugin:METHOD
random = corner_plugin:METHOD
missing = no_such_module:METHOD
misnamed = corner_plugin:OTHER_NAME
bare = corner_plugin:NO_METHOD
Shouting = corner_plugin:METHOD
"""
PROBLEM = Problem(NUMERIC, 1, trials=20)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution, as an installer leaves it."""
    info = tmp_path / "corner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "corner_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    registry.plugins.cache_clear()
    yield
    sys.modules.pop("corner_plugin", None)
    registry.plugins.cache_clear()


@pytest.mark.usefixtures("installed")
def test_an_installed_plugin_is_an_algorithm_like_any_other() -> None:
    with capture_logs() as logs:
        names = [algorithm.name for algorithm in registry.algorithms()]
    assert names.count("corner") == names.count("random") == 1
    assert not {"missing", "misnamed", "bare", "Shouting"} & set(names)
    left_out = {entry["optimizer"]: entry["why"] for entry in logs if "why" in entry}
    assert "'no_such_module', which is not installed" in left_out["missing"]
    assert "called 'edge'" in left_out["misnamed"]
    assert "not a Method" in left_out["bare"]
    assert left_out["random"] == "its name is taken"
    assert "its name" in left_out["Shouting"]

    assert registry.choose("corner", PROBLEM, "f").algorithm == "corner"
    optimizer = registry.make("corner", PROBLEM)
    assert optimizer.ask(1) == Suggestion({"x": 0.0, "y": 1.0}, "corner")
    # Its name stays ours.
    assert isinstance(registry.make("random", PROBLEM), RandomSearch)


@pytest.mark.usefixtures("installed")
def test_a_plugin_that_cannot_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="one objective only") as unfit:
        registry.choose("corner", Problem(NUMERIC, 1, trials=20, objectives=2), "algorithm.name")
    assert unfit.value.field == "algorithm.name"
    with pytest.raises(FailedPrecondition, match="no_such_module"):
        registry.choose("missing", PROBLEM, "f")
    with pytest.raises(InvalidInput, match="did you mean corner"):
        registry.choose("cornre", PROBLEM, "f")


@pytest.mark.usefixtures("installed")
def test_what_a_plugin_raises_names_the_plugin() -> None:
    optimizer = registry.make("corner", PROBLEM)
    with pytest.raises(FailedPrecondition, match="'corner' cannot go on: thirteen"):
        optimizer.tell(Result(13, {"x": 0.0, "y": 1.0}, Outcome.MEASURED, (1.0,)))


def test_a_study_whose_plugin_is_gone_says_so() -> None:
    with pytest.raises(FailedPrecondition, match="not installed"):
        registry.make("corner", PROBLEM)


class Stray:
    """Leaves the space, and adopts."""

    def __init__(self, problem: Problem) -> None:
        self.adopted: list[int] = []

    def ask(self, number: int) -> Suggestion | Nothing:
        if self.adopted:
            return Nothing.LEFT
        return Suggestion({"x": 7.0, "y": 1.0}, "stray")

    def adopt(self, number: int, parameters: object) -> None:
        self.adopted.append(number)

    def tell(self, result: Result) -> None:
        """Learns nothing."""


STRAY = Method(Algorithm("stray", "", ""), Stray)


def test_suggestions_outside_of_the_space_never_become_trials() -> None:
    plugins = Plugins([EntryPoint("stray", f"{__name__}:STRAY", GROUP)], taken=())
    plugins._loaded["stray"] = STRAY  # this module cannot be imported by name
    optimizer = plugins.make("stray", PROBLEM)
    with pytest.raises(FailedPrecondition, match="outside of the space: 'x'"):
        optimizer.ask(1)
    with pytest.raises(InvalidInput, match="cannot work on this study: it suggested"):
        plugins.check("stray", PROBLEM, "f")
    assert isinstance(optimizer, Adopting)
    optimizer.adopt(1, {"x": 0.5, "y": 1.0})
    assert optimizer.ask(2) is Nothing.LEFT


def test_one_that_cannot_adopt_is_asked_again() -> None:
    plugins = Plugins([EntryPoint("even", "none:NONE", GROUP)], taken=())
    plugins._loaded["even"] = Method(
        Algorithm("even", "", ""), lambda problem: registry.make("quasi-random", problem)
    )
    assert not isinstance(plugins.make("even", Problem(MIXED, 1)), Adopting)


def test_of_two_plugins_of_one_name_one_is_left_out() -> None:
    points = [EntryPoint("twin", f"package_{i}:METHOD", GROUP) for i in (2, 1)]
    with capture_logs() as logs:
        assert Plugins(points, taken=()).names == ["twin"]
    assert [entry["at"] for entry in logs] == ["package_2:METHOD"]
