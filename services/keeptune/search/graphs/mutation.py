"""Small changes of a graph, each of which keeps to its space.

A parameter, a kind, an edge or a node changes, a node is added or taken away, or a part of the
graph grows anew. Types are kept to by every change (as in Montana, Strongly Typed Genetic
Programming, 1995); a change that breaks a bound is not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.graphs import rules, sampling
from keeptune.search.graphs.drafts import Draft, drawn_settings, settings_of
from keeptune.search.graphs.values import SOURCE, Graph

if TYPE_CHECKING:
    from keeptune.search.space import Assignment, GraphSpace, Kind, SearchSpace

    MutateSettings = Callable[
        [SearchSpace, Assignment, np.random.Generator], tuple[str, Assignment]
    ]

# Makes one change in a draft; False: it cannot.
Change = Callable[[Draft, np.random.Generator], bool]
_TRIES = 40
_SETTINGS_SHARE = 0.4


def mutated(
    space: GraphSpace, graph: Graph, rng: np.random.Generator, settings: MutateSettings
) -> Graph:
    """Another graph, one change away; `settings` changes the parameters of a node.

    Where no change is found that keeps to the space, any other graph of it.
    """
    for _ in range(_TRIES):
        draft = Draft.of(space, graph)
        if change(draft, rng, settings) and draft.output != SOURCE:
            found = draft.graph()
            if found != graph and rules.problem_with(space, found) is None:
                return found
    return sampling.sample(space, rng)


def change(
    draft: Draft,
    rng: np.random.Generator,
    settings: MutateSettings,
    changes: tuple[Change, ...] | None = None,
) -> bool:
    """One change of a draft, which may break a bound; False when it could not be made.

    Of parameters, or of the structure by one of `changes`; None = any.
    """
    if rng.random() < _SETTINGS_SHARE:
        return _set(draft, rng, settings)
    changes = CHANGES if changes is None else changes
    return changes[rng.integers(len(changes))](draft, rng)


def _set(draft: Draft, rng: np.random.Generator, settings: MutateSettings) -> bool:
    """Other parameters of one part."""
    parts = [draft.parts[name] for name in draft.order()]
    parts = [part for part in parts if part.kind.parameters.free]
    if not parts:
        return False
    part = parts[rng.integers(len(parts))]
    _, found = settings(part.kind.parameters, part.settings, rng)
    part.settings = settings_of(found)
    return True


def replace(draft: Draft, rng: np.random.Generator) -> bool:
    """A part becomes one of another kind that fits in its place."""
    order = draft.order()
    part = draft.parts[order[rng.integers(len(order))]]
    kinds = [
        kind
        for kind in draft.space.kinds
        if kind.name != part.kind.name
        and kind.output == part.kind.output
        and _can_take(kind, [draft.type_of(i) for i in part.inputs])
    ]
    if not kinds:
        return False
    kind = kinds[rng.integers(len(kinds))]
    # What both have by the same name means the same.
    drawn = drawn_settings(kind, rng)
    kept = {name: value for name, value in part.settings.items() if name in drawn}
    by_name = kind.parameters.by_name
    kept = {name: value for name, value in kept.items() if by_name[name].domain.contains(value)}
    if kind.parameters.problem_with(drawn | kept) is None:
        drawn |= kept
    part.kind, part.settings = kind, drawn
    return True


def insert(draft: Draft, rng: np.random.Generator) -> bool:
    """A part is put into an edge, or behind the output."""
    edges = [*draft.edges(), None]
    edge = edges[rng.integers(len(edges))]
    taker = SOURCE if edge is None else edge[0]
    given = draft.output if edge is None else draft.parts[edge[0]].inputs[edge[1]]
    type_ = draft.type_of(given)
    kinds = [k for k in draft.space.kinds if k.output == type_ and type_ in k.inputs]
    if not kinds:
        return False
    kind = kinds[rng.integers(len(kinds))]
    slots = [i for i, wanted in enumerate(kind.inputs) if wanted == type_]
    chosen = slots[rng.integers(len(slots))]
    inputs = []
    for slot, wanted in enumerate(kind.inputs):
        found = given if slot == chosen else _supply(draft, wanted, taker, rng)
        if found is None:
            return False
        inputs.append(found)
    name = draft.add(kind, drawn_settings(kind, rng), inputs)
    if edge is None:
        draft.output = name
    else:
        draft.parts[edge[0]].inputs[edge[1]] = name
    return True


def remove(draft: Draft, rng: np.random.Generator) -> bool:
    """A part goes; what it took of the type that it gave takes its place."""
    ways = [
        (name, given)
        for name in draft.order()
        for given in draft.parts[name].inputs
        if draft.type_of(given) == draft.parts[name].kind.output
    ]
    if not ways:
        return False
    name, given = ways[rng.integers(len(ways))]
    draft.redirect(name, given)
    return True


def join(draft: Draft, rng: np.random.Generator) -> bool:
    """A part takes one input more."""
    names = [name for name in draft.order() if draft.parts[name].takes_more]
    if not names:
        return False
    name = names[rng.integers(len(names))]
    part = draft.parts[name]
    wanted = part.kind.inputs[-1]
    others = [i for i in draft.sources(wanted, name) if i not in part.inputs]
    if draft.space.shape == "DAG" and others:
        part.inputs.append(others[rng.integers(len(others))])
        return True
    grown = _grown(draft, wanted, rng)
    if grown is None:
        return False
    part.inputs.append(grown)
    return True


def cut(draft: Draft, rng: np.random.Generator) -> bool:
    """A part takes one input less."""
    names = [name for name in draft.order() if draft.parts[name].takes_fewer]
    if not names:
        return False
    part = draft.parts[names[rng.integers(len(names))]]
    first = len(part.kind.inputs) - 1
    del part.inputs[first + rng.integers(len(part.inputs) - first)]
    return True


def reroute(draft: Draft, rng: np.random.Generator) -> bool:
    """A part takes from another one than before. Not in trees, where nothing is left to take."""
    if draft.space.shape != "DAG":
        return False
    edges = list(draft.edges())
    name, slot = edges[rng.integers(len(edges))]
    given = draft.parts[name].inputs[slot]
    others = [i for i in draft.sources(draft.type_of(given), name) if i != given]
    if not others:
        return False
    draft.parts[name].inputs[slot] = others[rng.integers(len(others))]
    return True


def regrow(draft: Draft, rng: np.random.Generator) -> bool:
    """A part, with all that it alone needs, is grown anew (Koza 1992)."""
    order = draft.order()
    name = order[rng.integers(len(order))]
    grown = _grown(draft, draft.type_of(name), rng, room=True)
    if grown is None:
        return False
    draft.redirect(name, grown)
    return True


CHANGES: tuple[Change, ...] = (replace, insert, insert, remove, remove, join, cut, reroute, regrow)


def _supply(draft: Draft, type_: str, before: int, rng: np.random.Generator) -> int | None:
    """Something that gives the type and does not need `before`; SOURCE = whatever there is."""
    if draft.space.shape == "DAG":
        sources = draft.sources(type_, before)
        if sources:
            return sources[rng.integers(len(sources))]
    return _grown(draft, type_, rng)


def _grown(draft: Draft, type_: str, rng: np.random.Generator, *, room: bool = False) -> int | None:
    """A new tree that gives the type: small, or with `room` up to the size that is left."""
    trees = draft.space.trees
    sizes = trees.sizes_of(type_)
    if not sizes:
        return None
    taken = len(draft.order())
    largest = draft.space.max_nodes - taken // 2 if room else sizes[0] + 2
    sizes = tuple(size for size in sizes if size <= max(largest, sizes[0]))
    return draft.add_tree(trees.draw(type_, sizes[rng.integers(len(sizes))], rng), rng)


def _can_take(kind: Kind, types: list[str]) -> bool:
    return len(types) in kind.arities and list(kind.taking(len(types))) == types
