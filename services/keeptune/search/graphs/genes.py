"""The genes of a graph: a mark for each node, by which the nodes of two graphs are matched.

A mark is NEAT's innovation number (Stanley and Miikkulainen, Evolving Neural Networks through
Augmenting Topologies, 2002). It is no running count but follows from how the node came to be: the
same change at the same place of two graphs gives the same mark, in any process and any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.graphs.drafts import Draft, settings_of
from keeptune.search.graphs.values import SOURCE, Graph, Node, Scalar

if TYPE_CHECKING:
    from keeptune.search.space import GraphSpace, SearchSpace

Marks = tuple[int, ...]
_ORIGIN = 0


def first_marks(graph: Graph) -> Marks:
    """Of a graph without a history: by each node's kind, and the marks of what it takes."""
    marks = [_ORIGIN]
    for node in graph.nodes:
        marks.append(_unlike(marks, _mark("first", node.kind, *(marks[i] for i in node.inputs))))
    return tuple(marks[1:])


def later_marks(draft: Draft, kinds: Sequence[str], marks: Marks) -> Marks:
    """Of the graph that a changed draft becomes; `kinds` and `marks` were those before.

    A node keeps its mark while it keeps its kind. A new one is marked by its kind and by the nodes
    between which it stands.
    """
    order = draft.order()
    known = {SOURCE: _ORIGIN}
    for name in order:
        if name <= len(kinds):
            kept = draft.parts[name].kind.name == kinds[name - 1]
            mark = marks[name - 1]
            known[name] = mark if kept else _mark("turned", draft.parts[name].kind.name, mark)
    takers: dict[int, list[int]] = {}
    for name in order:
        for given in draft.parts[name].inputs:
            takers.setdefault(given, []).append(name)
    found: list[int] = [_ORIGIN]
    for name in order:
        if name not in known:
            part = draft.parts[name]
            before = [known[i] for i in part.inputs]
            after = sorted(known.get(i, _ORIGIN) for i in takers.get(name, ()))
            known[name] = _mark("grown", part.kind.name, *before, "to", *after)
        known[name] = _unlike(found, known[name])
        found.append(known[name])
    return tuple(found[1:])


def incompatibility(
    space: GraphSpace, one: tuple[Graph, Marks], other: tuple[Graph, Marks], weight: float
) -> float:
    """Genes that do not match, as a part of those of the larger; and how matching ones differ.

    Genes are nodes and edges. The mean difference of matching nodes' parameters, each from 0 to 1,
    counts `weight`.
    """
    mine, theirs = _genes(*one), _genes(*other)
    odd = len(mine.keys() ^ theirs.keys()) / max(len(mine), len(theirs))
    pairs = matches(one[1], other[1])
    differences = [
        unlikeness(
            space.by_name[one[0].nodes[i].kind].parameters,
            one[0].nodes[i].settings,
            other[0].nodes[j].settings,
        )
        for i, j in pairs
    ]
    return odd + weight * (sum(differences) / len(differences) if differences else 0.0)


def matches(one: Marks, other: Marks) -> list[tuple[int, int]]:
    """Indices of nodes with the same mark."""
    places = {mark: j for j, mark in enumerate(other)}
    return [(i, places[mark]) for i, mark in enumerate(one) if mark in places]


def mixed(
    space: GraphSpace,
    better: Graph,
    other: Graph,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> Graph:
    """The better one's structure; the parameters of nodes that match come from either."""
    nodes = list(better.nodes)
    for i, j in pairs:
        mine, theirs = nodes[i].settings, other.nodes[j].settings
        parameters = space.by_name[nodes[i].kind].parameters
        taken = {name: value for name, value in theirs.items() if rng.random() < 0.5}
        settings = settings_of(parameters.assign({**theirs, **mine, **taken}))
        nodes[i] = Node.of(nodes[i].kind, settings, nodes[i].inputs)
    return Graph(tuple(nodes))


def unlikeness(space: SearchSpace, one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> float:
    """The mean difference of parameters, each from 0 to 1; 0 where there are none."""
    if not space.free:
        return 0.0
    total = 0.0
    for parameter in space.free:
        a, b = one.get(parameter.name), other.get(parameter.name)
        if a is None or b is None or isinstance(a, str | bool) or isinstance(b, str | bool):
            total += float(a != b)
        else:
            total += abs(parameter.domain.to_unit(a) - parameter.domain.to_unit(b))
    return total / len(space.free)


def _genes(graph: Graph, marks: Marks) -> dict[tuple[int, int], None]:
    """Nodes as (mark, itself), edges as (from, to)."""
    known = (_ORIGIN, *marks)
    genes = dict.fromkeys((mark, mark) for mark in marks)
    for node, mark in zip(graph.nodes, marks, strict=True):
        genes.update(dict.fromkeys((known[i], mark) for i in node.inputs))
    return genes


def _unlike(taken: Sequence[int], mark: int) -> int:
    """The mark, or where it is taken one that follows from it."""
    while mark in taken:
        mark = _mark("again", mark)
    return mark


def _mark(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big")
