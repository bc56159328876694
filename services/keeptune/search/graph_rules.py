"""What a space of graphs must keep to; every breach is named by its field, with the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from keeptune.runtime.errors import Violation
from keeptune.search.graphs import sampling
from keeptune.search.space import GraphSpace, Kind, SearchSpace, Shape

Violations = Callable[[SearchSpace, str], Iterator[Violation]]


def violations(space: GraphSpace, field: str, of_parameters: Violations) -> Iterator[Violation]:
    """All that is wrong with it; `of_parameters` says what is wrong with those of a kind."""
    found = [*_kinds(space, field, of_parameters), *_bounds(space, field)]
    yield from found
    if not found:
        yield from _emptiness(space, field)


def _kinds(space: GraphSpace, field: str, of_parameters: Violations) -> Iterator[Violation]:
    if not space.kinds:
        yield Violation(f"{field}.kinds", "is empty", "give at least one kind of node")
    seen: dict[str, int] = {}
    for i, kind in enumerate(space.kinds):
        here = f"{field}.kinds[{i}]"
        first = seen.setdefault(kind.name, i)
        if first != i:
            yield Violation(
                f"{here}.kind", f"is {kind.name!r}, as of kinds[{first}]", "name each kind once"
            )
        if kind.parameters.parameters:
            yield from of_parameters(kind.parameters, here)
        for j, parameter in enumerate(kind.parameters.parameters):
            if isinstance(parameter.domain, GraphSpace):
                yield Violation(
                    f"{here}.parameters[{j}].graph",
                    "is a graph within a graph",
                    "give its nodes as kinds of the graph itself",
                )
        yield from _inputs(space, kind, here)


def _inputs(space: GraphSpace, kind: Kind, field: str) -> Iterator[Violation]:
    if space.shape is Shape.CHAIN and list(kind.arities) != [1]:
        yield Violation(
            f"{field}.inputs",
            f"lets {kind.name!r} take {'none' if not kind.inputs else 'several'}, and in a chain "
            "each node takes the one before it",
            "give it one input, or use GRAPH_SHAPE_TREE or GRAPH_SHAPE_DAG",
        )


def _bounds(space: GraphSpace, field: str) -> Iterator[Violation]:
    if space.min_nodes > space.max_nodes:
        yield Violation(
            f"{field}.min_nodes",
            f"is above max_nodes ({space.min_nodes} > {space.max_nodes})",
            "swap them",
        )
    if space.max_depth and space.min_depth > space.max_depth:
        yield Violation(
            f"{field}.min_depth",
            f"is above max_depth ({space.min_depth} > {space.max_depth})",
            "swap them",
        )
    if space.shape is not Shape.DAG:
        for name in ("max_width", "allow_skips"):
            if getattr(space, name):
                yield Violation(
                    f"{field}.{name}",
                    f"is set, which means nothing for a {space.shape.lower()}",
                    "leave it out, or use GRAPH_SHAPE_DAG",
                )


def _emptiness(space: GraphSpace, field: str) -> Iterator[Violation]:
    try:
        sampling.sample(space, np.random.default_rng(0))
    except sampling.NoGraphError:
        yield Violation(
            field,
            f"has no graph from {space.input!r} to {space.output!r} within its bounds",
            "widen the bounds, or add kinds whose inputs and outputs lead there",
        )
