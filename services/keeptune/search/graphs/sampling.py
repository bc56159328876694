"""Graphs drawn by chance: every size as likely as another, then every tree of that size.

A chain or a tree is drawn as it is. A DAG is a tree to which edges are added between its branches
and past its nodes; bounds on its width and its edges are kept by drawing again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.graphs import rules
from keeptune.search.graphs.drafts import Draft
from keeptune.search.graphs.values import Graph

if TYPE_CHECKING:
    from keeptune.search.space import GraphSpace

_TRIES = 200
_TRIES_OF_A_SIZE = 50
_DRAWS = 2**53


class NoGraphError(ValueError):
    """No graph within the bounds was found."""


def sample(space: GraphSpace, rng: np.random.Generator, size: int | None = None) -> Graph:
    """A graph of so many nodes; None = of any number of them. Raises NoGraphError.

    The bounds of a DAG may leave no graph of a size that its kinds allow: then it has another.
    """
    sizes = space.trees.sizes
    wanted = size or 0
    for number in range(_TRIES if sizes else 0):
        if number % _TRIES_OF_A_SIZE == 0 and (number or size is None):
            wanted = sizes[rng.integers(len(sizes))]
        tree = space.trees.draw(space.output, wanted, rng)
        if tree is None:
            continue
        draft = Draft.of_tree(space, tree, rng)
        if space.shape == "DAG":
            draft.connect(rng)
        graph = draft.graph()
        # While there is hope for it, the very size; layers may have cost nodes.
        fits = len(graph) == wanted or number >= _TRIES // 2
        if fits and rules.problem_with(space, graph) is None:
            return graph
    raise NoGraphError("no graph of these kinds keeps to the bounds")


def from_unit(space: GraphSpace, unit: float) -> Graph:
    """The graph at a coordinate in [0, 1]: its size grows with it, the rest is chance."""
    sizes = space.trees.sizes
    scaled = unit * len(sizes)
    place = min(int(scaled), len(sizes) - 1)
    rng = np.random.default_rng(int((scaled - place) * _DRAWS))
    return sample(space, rng, sizes[place])


def to_unit(space: GraphSpace, graph: Graph) -> float:
    """The middle of the coordinates of graphs of this size."""
    sizes = space.trees.sizes
    return (sizes.index(len(graph)) + 0.5) / len(sizes) if len(graph) in sizes else 0.5
