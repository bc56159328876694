"""The methods that search graphs, and how the others are kept from them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.search import conformance
from keeptune.search.conformance import graph_checks
from keeptune.search.graphs.values import Graph
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Method, Nothing, Outcome, Problem, Result
from keeptune.search.optimizers.genetic_programming import GeneticProgramming
from keeptune.search.optimizers.neat import Neat

GRAPHS = conformance.GRAPHS
OWN = {method.algorithm.name: method for method in registry._METHODS}
ABLE = [name for name, method in OWN.items() if method.algorithm.graphs]
UNABLE = [name for name in OWN if name not in ABLE]


@pytest.mark.parametrize("check", graph_checks.CHECKS, ids=conformance.name_of)
@pytest.mark.parametrize("name", ABLE)
def test_methods_for_graphs_conform(name: str, check: conformance.Check) -> None:
    check(OWN[name])


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
@pytest.mark.parametrize("name", ["neat", "genetic-programming"])
def test_they_serve_spaces_without_graphs(name: str, check: conformance.Check) -> None:
    if check not in graph_checks.CHECKS:
        check(OWN[name])


def test_those_that_search_graphs_are_these() -> None:
    wanted = {"random", "quasi-random", "regularized-evolution", "neat", "genetic-programming"}
    assert wanted <= set(ABLE)


@pytest.mark.parametrize("name", [*UNABLE, "nevergrad/CMA"])
def test_others_refuse_graphs_and_name_those_that_take_them(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        registry.choose(name, Problem(GRAPHS["chain"], 1, trials=20), "study.algorithm")
    (violation,) = refused.value.violations
    assert violation.field == "study.algorithm"
    assert "'net'" in violation.problem
    assert "neat" in violation.fix
    assert "genetic-programming" in violation.fix


@pytest.mark.parametrize("shape", GRAPHS)
def test_auto_takes_one_that_can(shape: str) -> None:
    for trials in (10, 100, 1000, None):
        choice = registry.choose("", Problem(GRAPHS[shape], 1, trials=trials), "study.algorithm")
        assert choice.algorithm in ABLE
        assert "graph" in choice.because


def best(method: Method, shape: str, target: Callable[[Graph], float], seed: int) -> float:
    """The lowest loss of a hundred trials."""
    optimizer = method.make(Problem(GRAPHS[shape], seed, 100))
    found = []
    for number in range(1, 101):
        answer = optimizer.ask(number)
        assert not isinstance(answer, Nothing)
        graph = answer.parameters["net"]
        assert isinstance(graph, Graph)
        found.append(target(graph))
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (found[-1],)))
    return min(found)


def joined(graph: Graph) -> float:
    """Lowest at six nodes, of which three take more than one input."""
    several = sum(len(node.inputs) > 1 for node in graph.nodes)
    return abs(len(graph) - 6) + 2 * abs(several - 3) + _far_from(graph, 30)


def voting(graph: Graph) -> float:
    """Lowest for three classifiers and two scalers."""
    kinds = [node.kind for node in graph.nodes]
    counts = abs(kinds.count("classify") - 3) + abs(kinds.count("scale") - 2)
    return counts + 0.1 * len(graph) + _far_from(graph, 20)


def _far_from(graph: Graph, units: int) -> float:
    return sum(
        abs(math.log(float(node.settings["units"]) / units)) / 2
        for node in graph.nodes
        if "units" in node.settings
    )


@pytest.mark.parametrize("name", ["neat", "genetic-programming", "regularized-evolution"])
def test_learning_beats_chance(name: str) -> None:
    def total(name: str) -> float:
        return sum(
            best(OWN[name], shape, target, seed)
            for shape, target in (("alone", joined), ("tree", voting))
            for seed in range(3)
        )

    assert total(name) < 0.8 * total("random")


def test_neat_grows_what_was_small() -> None:
    """A loss that falls with every node draws the population along."""
    optimizer = Neat(Problem(GRAPHS["alone"], 1, trials=100))
    sizes = []
    for number in range(1, 81):
        graph = optimizer.ask(number).parameters["net"]
        assert isinstance(graph, Graph)
        sizes.append(len(graph))
        optimizer.tell(Result(number, {"net": graph}, Outcome.MEASURED, (-float(len(graph)),)))
    assert max(sizes[:8]) <= 4
    assert sum(sizes[-20:]) / 20 > 6


def test_of_equal_programs_the_smaller_is_the_parent() -> None:
    optimizer = GeneticProgramming(Problem(GRAPHS["alone"], 1, trials=200))
    sizes = []
    for number in range(1, 161):
        graph = optimizer.ask(number).parameters["net"]
        assert isinstance(graph, Graph)
        sizes.append(len(graph))
        optimizer.tell(Result(number, {"net": graph}, Outcome.MEASURED, (0.0,)))
    assert sum(sizes[-40:]) / 40 < sum(sizes[:40]) / 40 - 0.5
