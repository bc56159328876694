"""A graph under change: nodes by names that stay, whatever is put before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.graphs.growth import Tree
from keeptune.search.graphs.values import SOURCE, Graph, Node, Scalar

if TYPE_CHECKING:
    from keeptune.search.space import Assignment, GraphSpace, Kind

# That an edge is added to a DAG, again and again, where one may be.
_EDGE = 0.3


@dataclass
class Part:
    """A node of a draft; `inputs` are names of others, SOURCE the graph's own input."""

    kind: Kind
    settings: dict[str, Scalar]
    inputs: list[int]

    @property
    def takes_more(self) -> bool:
        return len(self.inputs) < self.kind.arities[-1]

    @property
    def takes_fewer(self) -> bool:
        return len(self.inputs) > self.kind.arities[0]


class Draft:
    """Parts by name; only those that `output` needs become nodes. Never has a cycle."""

    def __init__(self, space: GraphSpace) -> None:
        self.space = space
        self.parts: dict[int, Part] = {}
        self.output = SOURCE
        self._named = 0

    @classmethod
    def of(cls, space: GraphSpace, graph: Graph) -> Draft:
        """Nodes keep their places as names."""
        draft = cls(space)
        draft.output = draft.add_all(graph)[len(graph)]
        return draft

    @classmethod
    def of_tree(cls, space: GraphSpace, tree: Tree, rng: np.random.Generator) -> Draft:
        """With parameters drawn by chance."""
        draft = cls(space)
        draft.output = draft.add_tree(tree, rng)
        return draft

    def add(self, kind: Kind, settings: Mapping[str, Scalar], inputs: list[int]) -> int:
        """The name of the new part."""
        self._named += 1
        self.parts[self._named] = Part(kind, dict(settings), inputs)
        return self._named

    def add_tree(self, tree: Tree | None, rng: np.random.Generator) -> int:
        if tree is None:
            return SOURCE
        inputs = [self.add_tree(each, rng) for each in tree.inputs]
        kind = self.space.by_name[tree.kind]
        return self.add(kind, drawn_settings(kind, rng), inputs)

    def add_all(self, graph: Graph, upto: int | None = None) -> dict[int, int]:
        """The nodes up to a place, as far as that one needs them; their names by place."""
        last = len(graph) if upto is None else upto
        needed = {last}
        for place in range(last, 0, -1):
            if place in needed:
                needed.update(graph.nodes[place - 1].inputs)
        names = {SOURCE: SOURCE}
        for place in range(1, last + 1):
            if place in needed:
                node = graph.nodes[place - 1]
                inputs = [names[i] for i in node.inputs]
                names[place] = self.add(self.space.by_name[node.kind], node.settings, inputs)
        return names

    def type_of(self, name: int) -> str:
        return self.space.input if name == SOURCE else self.parts[name].kind.output

    def order(self) -> list[int]:
        """The names of all parts that the output needs, each after those it takes from."""
        ordered: dict[int, None] = {}
        stack = [(self.output, 0)] if self.output != SOURCE else []
        while stack:
            name, asked = stack.pop()
            if name in ordered:
                continue
            inputs = self.parts[name].inputs
            while asked < len(inputs) and (inputs[asked] == SOURCE or inputs[asked] in ordered):
                asked += 1
            if asked < len(inputs):
                stack += [(name, asked + 1), (inputs[asked], 0)]
            else:
                ordered[name] = None
        return list(ordered)

    def edges(self) -> Iterator[tuple[int, int]]:
        """Every input of every part that the output needs: the part's name, which input."""
        for name in self.order():
            for slot in range(len(self.parts[name].inputs)):
                yield name, slot

    def redirect(self, before: int, after: int) -> None:
        """Whoever took from the one takes from the other."""
        for part in self.parts.values():
            part.inputs = [after if each == before else each for each in part.inputs]
        if self.output == before:
            self.output = after

    def sources(self, type_: str, before: int) -> list[int]:
        """What of the type a part may take without a cycle: parts ahead of it, the input."""
        order = self.order()
        ahead = order[: order.index(before)] if before in order else order
        found = [name for name in ahead if self.type_of(name) == type_]
        return [SOURCE, *found] if self.space.input == type_ else found

    def connect(self, rng: np.random.Generator) -> None:
        """Makes a DAG of a tree: its leaves may take from others, and edges are added.

        Without skips its parts are brought into layers, for which some of them may go.
        """
        for name in self.order():
            part = self.parts[name]
            for slot, given in reversed([*enumerate(part.inputs)]):
                twice = part.inputs.index(given) < slot
                if twice or (given == SOURCE and rng.random() < _EDGE):
                    self.reroute(name, slot, self.sources(self.type_of(given), name), rng)
            while part.takes_more and rng.random() < _EDGE:
                sources = self.sources(part.kind.inputs[-1], name)
                others = [i for i in sources if i not in part.inputs]
                if not others:
                    break
                part.inputs.append(others[rng.integers(len(others))])
        if not self.space.allow_skips:
            self._layer(rng)

    def reroute(self, name: int, slot: int, sources: list[int], rng: np.random.Generator) -> None:
        """An input of the part comes from one of the sources that it does not take yet.

        Where there is none the input goes, if the part can do without it.
        """
        part = self.parts[name]
        others = [i for i in sources if i not in part.inputs]
        if others:
            part.inputs[slot] = others[rng.integers(len(others))]
        elif part.takes_fewer and slot >= len(part.kind.inputs) - 1:
            del part.inputs[slot]

    def _layer(self, rng: np.random.Generator) -> None:
        """No edge passes over a depth any more, where that can be had."""
        depths = {SOURCE: 0}
        for name in self.order():
            part = self.parts[name]
            above = max((depths[i] for i in part.inputs), default=0)
            for slot, given in reversed([*enumerate(part.inputs)]):
                if depths[given] < above:
                    type_ = self.type_of(given)
                    level = [i for i in depths if depths[i] == above and self.type_of(i) == type_]
                    self.reroute(name, slot, level, rng)
            depths[name] = above + 1

    def graph(self) -> Graph:
        """What the output needs, in canonical order; at least one part."""
        order = self.order()
        places = {SOURCE: SOURCE} | {name: place for place, name in enumerate(order, start=1)}
        return Graph(
            tuple(
                Node.of(part.kind.name, part.settings, [places[i] for i in part.inputs])
                for part in (self.parts[name] for name in order)
            )
        )


def drawn_settings(kind: Kind, rng: np.random.Generator) -> dict[str, Scalar]:
    """Parameters of a node, drawn by chance."""
    space = kind.parameters
    return settings_of(space.at({parameter.name: rng.random() for parameter in space.free}))


def settings_of(values: Assignment) -> dict[str, Scalar]:
    """Those of the values that a node can have: all but graphs."""
    return {name: value for name, value in values.items() if not isinstance(value, Graph)}
