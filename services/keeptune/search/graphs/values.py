"""A graph as a value: immutable, hashable, the same for all that means the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Scalar = bool | int | float | str

# Stands for the graph's own input among the inputs of a node.
SOURCE = 0


@dataclass(frozen=True)
class Node:
    """`parameters` by name, in alphabetical order; `inputs` are places of earlier nodes.

    Places count from 1; SOURCE is the graph's own input.
    """

    kind: str
    parameters: tuple[tuple[str, Scalar], ...] = ()
    inputs: tuple[int, ...] = (SOURCE,)

    @classmethod
    def of(cls, kind: str, parameters: Mapping[str, Scalar], inputs: Sequence[int]) -> Node:
        return cls(kind, tuple(sorted(parameters.items())), tuple(inputs))

    @cached_property
    def settings(self) -> dict[str, Scalar]:
        """The parameters as a mapping; not to be changed."""
        return dict(self.parameters)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order; the last one is the output."""

    nodes: tuple[Node, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Of each node: nodes on the longest way to it, itself included."""
        depths: list[int] = [0]
        for node in self.nodes:
            depths.append(1 + max((depths[i] for i in node.inputs), default=0))
        return tuple(depths[1:])

    def __str__(self) -> str:
        return " > ".join(f"{node.kind}" for node in self.nodes)

    @cached_property
    def canonical(self) -> Graph:
        """The same graph, its nodes in the order in which the output asks for its inputs.

        Nodes that the output does not need are left out.
        """
        places = {SOURCE: SOURCE}
        ordered: list[Node] = []
        stack = [(len(self.nodes), 0)]
        while stack:
            place, asked = stack.pop()
            node = self.nodes[place - 1]
            if place in places:
                continue
            if asked < len(node.inputs):
                stack.append((place, asked + 1))
                if node.inputs[asked] not in places:
                    stack.append((node.inputs[asked], 0))
                continue
            inputs = tuple(places[i] for i in node.inputs)
            ordered.append(Node(node.kind, node.parameters, inputs))
            places[place] = len(ordered)
        return Graph(tuple(ordered))


def to_plain(graph: Graph) -> dict[str, Any]:
    """Dicts and lists, as they are kept in JSON."""
    return {
        "nodes": [
            {"kind": node.kind, "parameters": node.settings, "inputs": list(node.inputs)}
            for node in graph.nodes
        ]
    }


def from_plain(plain: Mapping[str, Any]) -> Graph:
    return Graph(
        tuple(Node.of(node["kind"], node["parameters"], node["inputs"]) for node in plain["nodes"])
    )
