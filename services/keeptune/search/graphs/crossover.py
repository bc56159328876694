"""A part of one graph in the place of a part of another that gives the same type.

Subtree crossover (Koza, Genetic Programming, 1992), typed (Montana, Strongly Typed Genetic
Programming, 1995). The part is a node with all that it needs: of a chain its head, of a DAG a
sub-DAG, so that one operator serves every shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.graphs import rules
from keeptune.search.graphs.drafts import Draft
from keeptune.search.graphs.values import Graph

if TYPE_CHECKING:
    from keeptune.search.space import GraphSpace

_TRIES = 20


def crossed(
    space: GraphSpace, receiver: Graph, donor: Graph, rng: np.random.Generator
) -> Graph | None:
    """A child that is neither of them; None when none is found that keeps to the space."""
    for _ in range(_TRIES):
        place = int(rng.integers(1, len(receiver) + 1))
        type_ = rules.type_of(space, receiver, place)
        places = [
            each for each in range(1, len(donor) + 1) if rules.type_of(space, donor, each) == type_
        ]
        if not places:
            continue
        draft = Draft.of(space, receiver)
        chosen = places[rng.integers(len(places))]
        # The names of a draft's first nodes are their places.
        draft.redirect(place, draft.add_all(donor, chosen)[chosen])
        child = draft.graph()
        if child not in (receiver, donor) and rules.problem_with(space, child) is None:
            return child
    return None
