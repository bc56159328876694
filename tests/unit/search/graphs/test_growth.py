"""Trees are counted right, and each is drawn as often as another."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from keeptune.search.graphs.growth import Tree
from keeptune.search.space import GraphSpace, Kind, SearchSpace, Shape

NOTHING = SearchSpace(())


def space(*kinds: Kind, **more: int | str) -> GraphSpace:
    return GraphSpace(kinds, Shape.TREE, max_nodes=8, **more)  # type: ignore[arg-type]


BINARY = space(Kind("join", NOTHING, ("", "")))
TYPED = space(
    Kind("turn", NOTHING, ("a",), "b"),
    Kind("keep", NOTHING, ("b",), "b"),
    Kind("back", NOTHING, ("b",), "a"),
    Kind("pair", NOTHING, ("b", "b"), "b", most_inputs=3),
    Kind("leaf", NOTHING, (), "a"),
    input="a",
    output="b",
)


def all_trees(of: GraphSpace, type_: str, size: int) -> list[Tree | None]:
    """Every one of them, the plain way."""
    if not size:
        return [None] if type_ == of.input else []
    found: list[Tree | None] = []
    for kind in of.kinds:
        if kind.output != type_:
            continue
        for count in kind.arities:
            types = kind.taking(count)
            for sizes in product(range(size), repeat=count):
                if sum(sizes) == size - 1:
                    inputs = [all_trees(of, t, n) for t, n in zip(types, sizes, strict=True)]
                    found += [Tree(kind.name, each) for each in product(*inputs)]
    return found


def depth(tree: Tree | None) -> int:
    return 0 if tree is None else 1 + max(map(depth, tree.inputs), default=0)


@pytest.mark.parametrize("of", [BINARY, TYPED], ids=["binary", "typed"])
@pytest.mark.parametrize("size", range(6))
def test_trees_are_counted(of: GraphSpace, size: int) -> None:
    trees = all_trees(of, of.output, size)
    for deepest in range(1, 6):
        within = sum(depth(tree) <= deepest for tree in trees)
        bounded = GraphSpace(of.kinds, of.shape, 8, 1, 0, deepest, input=of.input, output=of.output)
        assert bounded.trees.count(of.output, size, deepest) == within
    assert of.trees.count(of.output, size, 8) == len(trees)


def test_binary_trees_are_counted_by_catalan_numbers() -> None:
    assert [BINARY.trees.count("", n, 8) for n in range(8)] == [1, 1, 2, 5, 14, 42, 132, 429]


def test_every_tree_is_drawn_as_often_as_another() -> None:
    rng = np.random.default_rng(1)
    possible = all_trees(TYPED, "b", 4)
    drawn = Counter(TYPED.trees.draw("b", 4, rng) for _ in range(60 * len(possible)))
    assert set(drawn) == set(possible)
    # Chi-squared with so many degrees of freedom, at a one in a million chance.
    excess = sum((count - 60) ** 2 / 60 for count in drawn.values()) - len(possible)
    assert excess < 5 * (2 * len(possible)) ** 0.5


def test_sizes_without_a_tree_are_left_out() -> None:
    even = space(Kind("join", NOTHING, ("x", "x"), "x"), Kind("end", NOTHING, (), "x"), output="x")
    assert even.trees.sizes == (1, 3, 5, 7)
    assert even.trees.sizes_of("y") == ()
    nowhere = space(Kind("keep", NOTHING, ("x",), "x"), output="x")
    assert nowhere.trees.sizes == ()


def test_a_hundred_nodes_are_no_trouble() -> None:
    large = GraphSpace(TYPED.kinds, Shape.TREE, 100, 90, 0, 20, input="a", output="b")
    tree = large.trees.draw("b", 95, np.random.default_rng(1))
    assert depth(tree) <= 20
