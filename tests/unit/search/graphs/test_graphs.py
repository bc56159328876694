"""Whatever is done to a graph, it keeps to its space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

from keeptune.search import assignments
from keeptune.search.graphs import crossover, genes, mutation, rules, sampling, similarity
from keeptune.search.graphs.drafts import Draft
from keeptune.search.graphs.values import Graph, Node
from keeptune.search.mutations import mutated
from keeptune.search.space import GraphSpace, Kind, SearchSpace, Shape
from tests.unit.search.graphs.spaces import SEEDS, SPACES, drawn

shapes = pytest.mark.parametrize("shape", SPACES)
few = settings(max_examples=25)


@shapes
def test_every_size_is_drawn_as_often_as_another(shape: str) -> None:
    space = SPACES[shape]
    sizes = Counter(len(drawn(space, seed)) for seed in range(400))
    assert set(sizes) == set(space.trees.sizes) - ({1} if shape == "layered" else set())
    if shape != "layered":
        assert min(sizes.values()) > 0.6 * 400 / len(sizes)


@shapes
@few
@given(seed=SEEDS)
def test_what_is_drawn_lies_in_the_space(shape: str, seed: int) -> None:
    graph = drawn(SPACES[shape], seed)
    assert rules.problem_with(SPACES[shape], graph) is None
    assert graph.canonical == graph
    assert assignments.decode(assignments.encode({"g": graph, "x": 1})) == {"g": graph, "x": 1}


@shapes
def test_a_coordinate_tells_the_size(shape: str) -> None:
    space = SPACES[shape]
    sizes = [len(sampling.from_unit(space, unit)) for unit in np.linspace(0, 1, 40)]
    if shape != "layered":
        assert sizes == sorted(sizes)
    assert sizes[-1] == space.max_nodes
    for size in space.trees.sizes[1:]:
        graph = sampling.sample(space, np.random.default_rng(size), size)
        assert len(sampling.from_unit(space, sampling.to_unit(space, graph))) == len(graph)


@shapes
@few
@given(seed=SEEDS)
def test_changes_keep_to_the_space(shape: str, seed: int) -> None:
    space, rng = SPACES[shape], np.random.default_rng(seed)
    graph = drawn(space, seed)
    for _ in range(6):
        changed = mutation.mutated(space, graph, rng, mutated)
        assert rules.problem_with(space, changed) is None
        assert changed.canonical == changed
        graph = changed


@shapes
def test_changes_lead_everywhere_and_back(shape: str) -> None:
    """Every size and every kind is met, and no change leads nowhere but up."""
    space, rng = SPACES[shape], np.random.default_rng(1)
    graph = drawn(space, 1)
    sizes, kinds, same = set(), set(), 0
    for _ in range(600):
        changed = mutation.mutated(space, graph, rng, mutated)
        same += changed == graph
        graph = changed
        sizes.add(len(graph))
        kinds.update(node.kind for node in graph.nodes)
    assert kinds == set(space.by_name)
    assert min(sizes) <= 2
    assert max(sizes) == space.max_nodes
    assert same == 0


@pytest.mark.parametrize("change", dict.fromkeys(mutation.CHANGES), ids=lambda c: c.__name__)
def test_each_change_can_be_made(change: mutation.Change) -> None:
    made = 0
    for space in (SPACES["dag"], SPACES["tree"]):
        for seed in range(60):
            draft = Draft.of(space, drawn(space, seed))
            before = draft.graph()
            if change(draft, np.random.default_rng(seed)) and draft.output:
                after = draft.graph()
                made += after != before and rules.problem_with(space, after) is None
    assert made >= 20


@shapes
@few
@given(one=SEEDS, other=SEEDS)
def test_children_of_two_keep_to_the_space(shape: str, one: int, other: int) -> None:
    space = SPACES[shape]
    receiver, donor = drawn(space, one), drawn(space, other)
    child = crossover.crossed(space, receiver, donor, np.random.default_rng(one ^ other))
    if child is None:
        return
    assert rules.problem_with(space, child) is None
    assert child not in (receiver, donor)
    nodes = {(node.kind, node.parameters) for graph in (receiver, donor) for node in graph.nodes}
    assert {(node.kind, node.parameters) for node in child.nodes} <= nodes


@shapes
@few
@given(one=SEEDS, other=SEEDS)
def test_distances(shape: str, one: int, other: int) -> None:
    a, b = drawn(SPACES[shape], one), drawn(SPACES[shape], other)
    assert similarity.distance(a, a) == 0
    assert similarity.distance(a, b) == similarity.distance(b, a)
    assert 0 <= similarity.distance(a, b) <= 1
    assert (similarity.fingerprint(a) == similarity.fingerprint(b)) == (a == b)


def test_fingerprints_are_the_same_everywhere() -> None:
    graph = Graph((Node.of("fc", {"units": 8, "bias": True}, (0,)), Node.of("pool", {}, (1,))))
    assert similarity.fingerprint(graph) == "fd9317da23a11ebfeb1d00d45bf4ba56"


def test_nearer_is_more_alike() -> None:
    def chain(*kinds: str) -> Graph:
        return Graph(tuple(Node(kind, (), (i,)) for i, kind in enumerate(kinds)))

    base = chain("conv", "pool", "conv", "pool", "fc")
    near, far = chain("conv", "pool", "conv", "fc"), chain("fc", "fc")
    assert 0 < similarity.distance(base, near) < similarity.distance(base, far) < 1
    assert similarity.distance(base, chain("norm")) == 1


@shapes
@few
@given(seed=SEEDS)
def test_marks_are_unlike_within_a_graph_and_alike_in_another_process(
    shape: str, seed: int
) -> None:
    graph = drawn(SPACES[shape], seed)
    marks = genes.first_marks(graph)
    assert len(set(marks)) == len(graph)
    assert 0 not in marks
    assert genes.first_marks(graph) == marks


def test_marks_are_these_in_any_process() -> None:
    graph = Graph((Node("fc"), Node("pool", (), (1,))))
    assert genes.first_marks(graph) == (17198565678419585332, 15858742008717887576)


@shapes
@few
@given(seed=SEEDS)
def test_nodes_keep_their_marks_through_changes(shape: str, seed: int) -> None:
    space, rng = SPACES[shape], np.random.default_rng(seed)
    graph = drawn(space, seed)
    marks = genes.first_marks(graph)
    for _ in range(8):
        draft = Draft.of(space, graph)
        kinds = [node.kind for node in graph.nodes]
        if not mutation.change(draft, rng, mutated) or not draft.output:
            continue
        after = draft.graph()
        if rules.problem_with(space, after) is not None:
            continue
        found = genes.later_marks(draft, kinds, marks)
        assert len(set(found)) == len(after)
        kept = [name for name in draft.order() if name <= len(kinds)]
        same = [n for n in kept if draft.parts[n].kind.name == kinds[n - 1]]
        assert {marks[n - 1] for n in same} <= set(found)
        graph, marks = after, found


def test_the_same_change_at_the_same_place_gives_the_same_gene() -> None:
    space = SPACES["dag"]
    parent = Graph((Node.of("dense", {"units": 8}, (0,)), Node.of("dense", {"units": 4}, (1,))))
    marks = genes.first_marks(parent)
    children = []
    for units in (5, 50):
        draft = Draft.of(space, parent)
        name = draft.add(space.by_name["dense"], {"units": units}, [1])
        draft.parts[2].inputs = [name]
        children.append(genes.later_marks(draft, ["dense", "dense"], marks))
    assert children[0] == children[1]
    assert (children[0][0], children[0][2]) == marks
    assert genes.matches(marks, children[0]) == [(0, 0), (1, 2)]


@shapes
@few
@given(one=SEEDS, other=SEEDS)
def test_incompatibility(shape: str, one: int, other: int) -> None:
    space = SPACES[shape]
    pair = [(graph, genes.first_marks(graph)) for graph in (drawn(space, s) for s in (one, other))]
    assert genes.incompatibility(space, pair[0], pair[0], 1.0) == 0
    assert genes.incompatibility(space, *pair, 1.0) == pytest.approx(
        genes.incompatibility(space, *pair[::-1], 1.0)
    )


def test_parents_mix_where_their_genes_match() -> None:
    space = SPACES["dag"]
    better = Graph((Node.of("dense", {"units": 8}, (0,)), Node.of("dense", {"units": 8}, (1, 0))))
    other = Graph((Node.of("dense", {"units": 60}, (0,)), Node.of("dropout", {"rate": 0.5}, (1,))))
    pairs = genes.matches(genes.first_marks(better), genes.first_marks(other))
    assert pairs == [(0, 0)]
    found = {
        genes.mixed(space, better, other, pairs, np.random.default_rng(seed)) for seed in range(20)
    }
    assert {graph.nodes[0].settings["units"] for graph in found} == {8, 60}
    assert all(graph.nodes[1] == better.nodes[1] for graph in found)


PAIR = (Node.of("dense", {"units": 8}, (0,)), Node.of("dense", {"units": 8}, (1,)))
WRONG: dict[str, tuple[Graph, str]] = {
    "empty": (Graph(()), "0 nodes"),
    "an unknown kind": (Graph((Node("conv"),)), "'conv'"),
    "a wrong value": (Graph((Node.of("dense", {"units": 99}, (0,)),)), "'units'"),
    "an edge from behind": (Graph((Node.of("dense", {"units": 8}, (1,)),)), "not come before"),
    "an idle node": (Graph((PAIR[0], PAIR[0])), "nobody takes"),
    "too many inputs": (Graph((Node.of("dense", {"units": 8}, (0,) * 4),)), "4 inputs"),
    "too large": (Graph(tuple(Node("dropout", (("rate", 0.1),), (i,)) for i in range(9))), "9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graphs_are_told(case: str) -> None:
    graph, problem = WRONG[case]
    assert problem in (rules.problem_with(SPACES["dag"], graph) or "")
    assert not SPACES["dag"].contains(graph)


def test_shapes_are_kept_to() -> None:
    def dense(*inputs: int) -> Node:
        return Node.of("dense", {"units": 8}, inputs)

    skip = Graph((dense(0), dense(1, 0)))
    assert rules.problem_with(SPACES["dag"], skip) is None
    assert "skips a depth" in (rules.problem_with(SPACES["layered"], skip) or "")
    wide = Graph((dense(0), dense(0), dense(0), dense(0), dense(1, 2, 3), dense(4, 5)))
    assert "wide" in (rules.problem_with(SPACES["dag"], wide) or "")
    always, vote = Node.of("always", {"rate": 0.1}, ()), Node("vote", (), (1, 1))
    assert "no tree" in (rules.problem_with(SPACES["tree"], Graph((always, vote))) or "")
    flat = Graph((Node("flatten"), Node("pool", (), (1,)), Node("flatten", (), (2,))))
    assert "needs 'image'" in (rules.problem_with(SPACES["chain"], flat) or "")


def test_the_order_of_nodes_does_not_matter() -> None:
    one = Graph((Node("a"), Node("b"), Node("c", (), (1, 2))))
    other = Graph((Node("b"), Node("a"), Node("c", (), (2, 1))))
    assert one != other
    assert one.canonical == other.canonical


def test_a_space_without_graphs_says_so() -> None:
    nowhere = GraphSpace((Kind("a", SearchSpace(()), ("x",), "y"),), Shape.CHAIN, 3, output="y")
    with pytest.raises(sampling.NoGraphError):
        sampling.sample(nowhere, np.random.default_rng(1))
