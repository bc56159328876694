"""Parameter values: Python's own on one side, messages on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2


@dataclass(frozen=True)
class Node:
    """A node of a graph. `inputs` are the places of the nodes it takes from, counted from 1.

    0 is the graph's own input.
    """

    kind: str
    parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    inputs: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class GraphValue:
    """The value of a graph parameter: nodes, each after those it takes from; the last is the
    output."""

    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        """conv(filters=32) > pool, or with the inputs of each node where it is no list."""
        is_list = all(node.inputs == (i,) for i, node in enumerate(self.nodes))
        texts = []
        for place, node in enumerate(self.nodes, start=1):
            settings = ", ".join(
                f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in node.parameters.items()
            )
            text = f"{node.kind}({settings})" if settings else node.kind
            taken = ",".join(map(str, node.inputs))
            texts.append(text if is_list else f"{place}:{text}<{taken}")
        return (" > " if is_list else " ").join(texts)


Value: TypeAlias = bool | int | float | str | GraphValue


def to_message(value: Value, *, field: str = "value") -> types_pb2.ParameterValue:
    """Raises InvalidInput, naming `field`, for anything but a bool, number, string or graph."""
    # A bool is an int too, so it comes first.
    if isinstance(value, bool):
        return types_pb2.ParameterValue(bool_value=value)
    if isinstance(value, int):
        return types_pb2.ParameterValue(int_value=value)
    if isinstance(value, float):
        return types_pb2.ParameterValue(double_value=value)
    if isinstance(value, str):
        return types_pb2.ParameterValue(string_value=value)
    if isinstance(value, GraphValue):
        nodes = (_node(node, i, field) for i, node in enumerate(value.nodes))
        return types_pb2.ParameterValue(graph_value=types_pb2.Graph(nodes=nodes))
    raise InvalidInput(
        field=field, problem=f"is {value!r}", fix="give a number, text, a bool or a GraphValue"
    )


def from_message(message: types_pb2.ParameterValue) -> Any:
    """The value as Python's own, a graph as a GraphValue."""
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(message, kind)
    if kind == "graph_value":
        return _graph(found)
    return found


def parameters(messages: Mapping[str, types_pb2.ParameterValue]) -> dict[str, Any]:
    """Parameters by name, in alphabetical order."""
    return {name: from_message(messages[name]) for name in sorted(messages)}


def _node(node: Node, index: int, field: str) -> types_pb2.GraphNode:
    place = f"{field}.nodes[{index}].parameters"
    return types_pb2.GraphNode(
        id=index + 1,
        kind=node.kind,
        parameters={
            name: to_message(value, field=f"{place}.{name}")
            for name, value in node.parameters.items()
        },
        inputs=node.inputs,
    )


def _graph(message: types_pb2.Graph) -> GraphValue:
    places = {0: 0} | {node.id: place for place, node in enumerate(message.nodes, start=1)}
    return GraphValue(
        tuple(
            Node(node.kind, parameters(node.parameters), tuple(places[i] for i in node.inputs))
            for node in message.nodes
        )
    )
