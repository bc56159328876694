"""Graphs and their spaces to protobuf and back; what is no graph is for `convert_space`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from keeptune.runtime.errors import InvalidInput
from keeptune.search.domains import Value
from keeptune.search.graphs.values import SOURCE, Graph, Node, Scalar
from keeptune.search.space import GraphSpace, Kind, SearchSpace, Shape
from keeptune.v1 import types_pb2

ReadValue = Callable[[types_pb2.ParameterValue, str], Value]
WriteValue = Callable[[Scalar], types_pb2.ParameterValue]
ReadParameters = Callable[[Iterable[types_pb2.ParameterSpec], str], SearchSpace]
WriteParameters = Callable[[SearchSpace], list[types_pb2.ParameterSpec]]

_SHAPES = {
    types_pb2.GRAPH_SHAPE_CHAIN: Shape.CHAIN,
    types_pb2.GRAPH_SHAPE_DAG: Shape.DAG,
    types_pb2.GRAPH_SHAPE_TREE: Shape.TREE,
}


def space_from_proto(message: types_pb2.GraphSpace, field: str, read: ReadParameters) -> GraphSpace:
    """Raises InvalidInput for a shape that is not set, and as `read` does."""
    shape = _SHAPES.get(message.shape)
    if shape is None:
        raise InvalidInput(
            field=f"{field}.shape",
            problem="is not set",
            fix="set GRAPH_SHAPE_CHAIN, GRAPH_SHAPE_DAG or GRAPH_SHAPE_TREE",
        )
    return GraphSpace(
        kinds=tuple(
            _kind_from_proto(kind, f"{field}.kinds[{i}]", read)
            for i, kind in enumerate(message.kinds)
        ),
        shape=shape,
        max_nodes=message.max_nodes,
        min_nodes=message.min_nodes or 1,
        min_depth=message.min_depth,
        max_depth=message.max_depth,
        max_width=message.max_width,
        allow_skips=message.allow_skips,
        input=message.input,
        output=message.output,
    )


def space_to_proto(space: GraphSpace, write: WriteParameters) -> types_pb2.GraphSpace:
    return types_pb2.GraphSpace(
        kinds=[
            types_pb2.LayerKind(
                kind=kind.name,
                parameters=write(kind.parameters),
                inputs=kind.inputs,
                output=kind.output,
                max_inputs=kind.most_inputs,
                terminal=not kind.inputs,
            )
            for kind in space.kinds
        ],
        min_depth=space.min_depth,
        max_depth=space.max_depth,
        max_width=space.max_width,
        allow_skips=space.allow_skips,
        shape=types_pb2.GraphShape.Value(f"GRAPH_SHAPE_{space.shape}"),
        min_nodes=space.min_nodes,
        max_nodes=space.max_nodes,
        input=space.input,
        output=space.output,
    )


def graph_from_proto(message: types_pb2.Graph, field: str, read: ReadValue) -> Graph:
    """In canonical order, whatever its nodes' ids.

    Raises InvalidInput for ids that are no ids, and for a graph without nodes or within a graph.
    """
    if not message.nodes:
        raise InvalidInput(
            field=f"{field}.graph_value.nodes", problem="is empty", fix="give at least one node"
        )
    places = {SOURCE: SOURCE}
    nodes = []
    for i, node in enumerate(message.nodes):
        here = f"{field}.graph_value.nodes[{i}]"
        unknown = [each for each in node.inputs if each not in places]
        if unknown:
            raise InvalidInput(
                field=f"{here}.inputs",
                problem=f"names {unknown[0]}, which is no node before it",
                fix="list nodes after those that they take from; 0 is the graph's own input",
            )
        if node.id in places or node.id < 0:
            raise InvalidInput(
                field=f"{here}.id",
                problem=f"is {node.id}",
                fix="give each node an id of its own above 0",
            )
        parameters: dict[str, Scalar] = {}
        for name, each in node.parameters.items():
            value = read(each, f'{here}.parameters["{name}"]')
            if isinstance(value, Graph):
                raise InvalidInput(
                    field=f'{here}.parameters["{name}"]',
                    problem="is a graph within a graph",
                    fix="give a number, a string or a bool",
                )
            parameters[name] = value
        nodes.append(Node.of(node.kind, parameters, [places[each] for each in node.inputs]))
        places[node.id] = len(nodes)
    graph = Graph(tuple(nodes))
    # One with idle nodes stays as it is, for the rules to find them.
    return graph.canonical if len(graph.canonical) == len(graph) else graph


def graph_to_proto(graph: Graph, write: WriteValue) -> types_pb2.Graph:
    return types_pb2.Graph(
        nodes=[
            types_pb2.GraphNode(
                id=place,
                kind=node.kind,
                parameters={name: write(value) for name, value in node.parameters},
                inputs=node.inputs,
            )
            for place, node in enumerate(graph.nodes, start=1)
        ]
    )


def _kind_from_proto(message: types_pb2.LayerKind, field: str, read: ReadParameters) -> Kind:
    if message.terminal:
        if message.inputs or message.max_inputs:
            raise InvalidInput(
                field=f"{field}.terminal",
                problem="is set, but the kind has inputs",
                fix="leave out inputs and max_inputs, or terminal",
            )
        inputs: tuple[str, ...] = ()
    else:
        inputs = tuple(message.inputs) or ("",)
    return Kind(
        name=message.kind,
        parameters=read(message.parameters, f"{field}.parameters"),
        inputs=inputs,
        output=message.output,
        most_inputs=message.max_inputs,
    )
