"""Whether a graph lies in its space."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from keeptune.search.graphs.values import SOURCE, Graph, Node

if TYPE_CHECKING:
    from keeptune.search.space import GraphSpace, Kind


def problem_with(space: GraphSpace, graph: Graph) -> str | None:
    """What is wrong first, to be read after the parameter's name; None for a right graph."""
    for place, node in enumerate(graph.nodes, start=1):
        wrong = _node(space, graph, place, node)
        if wrong is not None:
            return f"has at nodes[{place - 1}] {wrong}"
    return _topology(space, graph)


def type_of(space: GraphSpace, graph: Graph, place: int) -> str:
    """Of what a node, or the graph's own input, gives."""
    if place == SOURCE:
        return space.input
    return space.by_name[graph.nodes[place - 1].kind].output


def _node(space: GraphSpace, graph: Graph, place: int, node: Node) -> str | None:
    kind = space.by_name.get(node.kind)
    if kind is None:
        return f"the kind {node.kind!r}, where there are only {', '.join(space.by_name)}"
    wrong = kind.parameters.problem_with(node.settings)
    if wrong is not None:
        return f"a {node.kind} whose parameter {wrong[0]!r} {wrong[1]}"
    if len(node.inputs) not in kind.arities:
        return f"a {node.kind} with {len(node.inputs)} inputs, which takes {_arity(kind)}"
    for given, wanted in zip(node.inputs, kind.taking(len(node.inputs)), strict=True):
        if not SOURCE <= given < place:
            return f"a {node.kind} that takes from node {given}, which does not come before it"
        found = type_of(space, graph, given)
        if found != wanted:
            return f"a {node.kind} that needs {wanted!r}, where node {given} gives {found!r}"
    return None


def _arity(kind: Kind) -> str:
    fewest, most = kind.arities[0], kind.arities[-1]
    return f"{fewest} to {most}" if most > fewest else f"{fewest}"


def _topology(space: GraphSpace, graph: Graph) -> str | None:
    count = len(graph.nodes)
    if not space.min_nodes <= count <= space.max_nodes:
        return f"has {count} nodes, where {space.min_nodes} to {space.max_nodes} are allowed"
    found = type_of(space, graph, count)
    if found != space.output:
        return f"gives {found!r} at its last node, where {space.output!r} is asked for"
    taken = Counter(place for node in graph.nodes for place in node.inputs)
    idle = next((place for place in range(1, count) if not taken[place]), None)
    if idle is not None:
        return f"has nodes[{idle - 1}] whose output nobody takes"
    return _shape(space, graph, taken) or _bounds(space, graph)


def _shape(space: GraphSpace, graph: Graph, taken: Counter[int]) -> str | None:
    if space.shape == "TREE":
        shared = next((place for place in taken if place != SOURCE and taken[place] > 1), None)
        if shared is not None:
            return f"has nodes[{shared - 1}] taken more than once, which is no tree"
    elif space.shape == "CHAIN":
        for place, node in enumerate(graph.nodes, start=1):
            if node.inputs != (place - 1,):
                return f"has nodes[{place - 1}] that does not take the one before it alone"
    elif not space.allow_skips:
        depths = (0, *graph.depths)
        for place, node in enumerate(graph.nodes, start=1):
            far = next((i for i in node.inputs if depths[i] != depths[place] - 1), None)
            if far is not None:
                return f"has an edge from {far} to {place} that skips a depth"
    return None


def _bounds(space: GraphSpace, graph: Graph) -> str | None:
    depth = max(graph.depths, default=0)
    if depth < space.min_depth:
        return f"is {depth} deep, where at least {space.min_depth} is asked for"
    if space.max_depth and depth > space.max_depth:
        return f"is {depth} deep, where at most {space.max_depth} is allowed"
    if space.max_width:
        width = max(Counter(graph.depths).values(), default=0)
        if width > space.max_width:
            return f"is {width} wide, where at most {space.max_width} is allowed"
    return None
