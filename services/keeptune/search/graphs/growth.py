"""Trees of typed nodes: how many there are of each size, and one of them drawn.

Graphs of every shape are made from them: a chain is a tree of kinds with one input, a DAG a tree
to which edges are added. Counted as in Böhm and Geyer-Schulz (Exact Uniform Initialization for
Genetic Programming, FOGA 1996), with types and bounded depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keeptune.search.space import GraphSpace, Kind


@dataclass(frozen=True)
class Tree:
    """A node and the trees it takes; None among them = the graph's own input."""

    kind: str
    inputs: tuple[Tree | None, ...]


@dataclass(frozen=True)
class _Form:
    """A kind that takes a certain number of inputs."""

    kind: Kind
    inputs: tuple[str, ...]


class Trees:
    """Of a space of graphs, shape aside: the graph's own input may be taken at any leaf."""

    def __init__(self, space: GraphSpace) -> None:
        self._input = space.input
        self._output = space.output
        self._bounds = range(space.min_nodes, space.max_nodes + 1)
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._largest = space.max_nodes
        # A tree is never deeper than it is large.
        self._deepest = min(space.max_depth or space.max_nodes, space.max_nodes)
        self._is_bounded = self._deepest < space.max_nodes
        self._forms: dict[str, list[_Form]] = {}
        for kind in space.kinds:
            for count in kind.arities:
                form = _Form(kind, kind.taking(count))
                self._forms.setdefault(kind.output, []).append(form)
        self._counts: dict[tuple[str, int, int], int] = {}
        self._ways: dict[tuple[tuple[str, ...], int, int], int] = {}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of nodes, within the space's bounds, of which there is a tree."""
        return tuple(n for n in self.sizes_of(self._output) if n in self._bounds)

    def sizes_of(self, type_: str) -> tuple[int, ...]:
        """The numbers of nodes of trees that give the type; 0 where the graph's own input does."""
        found = self._sizes.get(type_)
        if found is None:
            found = self._sizes[type_] = tuple(
                n for n in range(self._largest + 1) if self.count(type_, n, self._deepest)
            )
        return found

    def draw(self, type_: str, size: int, rng: np.random.Generator) -> Tree | None:
        """One of all trees of the size that give the type, each as likely as another.

        The parameters of its nodes aside. None for a size of 0: the graph's own input.
        """
        return self._draw(type_, size, self._deepest, rng)

    def count(self, type_: str, size: int, depth: int) -> int:
        """How many trees give the type, of so many nodes and at most so deep."""
        if not size:
            return int(type_ == self._input)
        if size < 0 or depth <= 0:
            return 0
        depth = self._depth(size, depth)
        found = self._counts.get((type_, size, depth))
        if found is None:
            # Smaller ones first, so that the recursion stays shallow.
            for smaller in range(1, size - 1):
                self.count(type_, smaller, depth)
            found = sum(
                self._fillings(form.inputs, size - 1, depth - 1)
                for form in self._forms.get(type_, ())
            )
            self._counts[type_, size, depth] = found
        return found

    def _fillings(self, types: tuple[str, ...], size: int, depth: int) -> int:
        """In how many ways inputs of these types can take so many nodes in all."""
        if not types:
            return int(size == 0)
        if len(types) == 1:
            return self.count(types[0], size, depth)
        depth = self._depth(size, depth)
        found = self._ways.get((types, size, depth))
        if found is None:
            found = sum(self._splits(types, size, depth))
            self._ways[types, size, depth] = found
        return found

    def _splits(self, types: tuple[str, ...], size: int, depth: int) -> list[int]:
        """The ways by how many nodes the first input takes: 0, 1, ..., all."""
        counts = []
        for first in range(size + 1):
            own = self.count(types[0], first, depth)
            counts.append(own and own * self._fillings(types[1:], size - first, depth))
        return counts

    def _draw(self, type_: str, size: int, depth: int, rng: np.random.Generator) -> Tree | None:
        if not size:
            return None
        forms = self._forms[type_]
        form = forms[_drawn([self._fillings(f.inputs, size - 1, depth - 1) for f in forms], rng)]
        inputs = []
        left = size - 1
        for i in range(len(form.inputs)):
            rest = form.inputs[i:]
            own = left if len(rest) == 1 else _drawn(self._splits(rest, left, depth - 1), rng)
            inputs.append(self._draw(rest[0], own, depth - 1, rng))
            left -= own
        return Tree(form.kind.name, tuple(inputs))

    def _depth(self, size: int, depth: int) -> int:
        return min(depth, size) if self._is_bounded else size


def _drawn(weights: Sequence[int], rng: np.random.Generator) -> int:
    """A place, drawn by its weight; the weights may be larger than any float."""
    total = sum(weights)
    left = rng.random()
    last = 0
    for i, weight in enumerate(weights):
        if weight:
            last = i
            left -= weight / total
            if left < 0:
                break
    return last
