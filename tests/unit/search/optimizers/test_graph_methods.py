"""The methods that search graphs, and how the others are kept from them."""

from __future__ import annotations

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.search import conformance
from keeptune.search.conformance import graph_checks
from keeptune.search.graphs.values import Graph
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Method, Nothing, Outcome, Problem, Result
from keeptune.search.optimizers.genetic_programming import GeneticProgramming
from keeptune.search.optimizers.neat import Neat
from keeptune.search.space import Assignment, SearchSpace

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


def best(method: Method, space: SearchSpace, seed: int, trials: int) -> float:
    """Of a loss that asks for five nodes, of which three are joined by more than one edge."""
    optimizer = method.make(Problem(space, seed, trials))
    found = []
    for number in range(1, trials + 1):
        answer = optimizer.ask(number)
        assert not isinstance(answer, Nothing)
        found.append(target(answer.parameters))
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (found[-1],)))
    return min(found)


def target(parameters: Assignment) -> float:
    graph = parameters["net"]
    assert isinstance(graph, Graph)
    joined = sum(len(node.inputs) > 1 for node in graph.nodes)
    units = sum(abs(float(node.settings.get("units", 0)) - 30) / 30 for node in graph.nodes)
    return abs(len(graph) - 6) + 2 * abs(joined - 3) + units


@pytest.mark.parametrize("name", ["neat", "genetic-programming", "regularized-evolution"])
def test_learning_beats_chance(name: str) -> None:
    def mean(name: str) -> float:
        return sum(best(OWN[name], GRAPHS["alone"], seed, 60) for seed in range(4)) / 4

    assert mean(name) < 0.8 * mean("random")


def test_neat_grows_what_was_small() -> None:
    """A loss that falls with every node draws the population along."""
    optimizer = Neat(Problem(GRAPHS["alone"], 1, trials=100))
    sizes = []
    for number in range(1, 81):
        graph = optimizer.ask(number).parameters["net"]
        assert isinstance(graph, Graph)
        sizes.append(len(graph))
        optimizer.tell(Result(number, {"net": graph}, Outcome.MEASURED, (-float(len(graph)),)))
    assert max(sizes[:20]) <= 4
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
