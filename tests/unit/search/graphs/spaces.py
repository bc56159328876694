"""Spaces of graphs of every shape, and graphs drawn from them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from keeptune.search.conformance.spaces import CHAIN, DAG, LAYERED, TREE
from keeptune.search.graphs import sampling
from keeptune.search.graphs.values import Graph
from keeptune.search.space import GraphSpace

SPACES = {"chain": CHAIN, "dag": DAG, "layered": LAYERED, "tree": TREE}
SEEDS = st.integers(0, 2**32)


def drawn(space: GraphSpace, seed: int) -> Graph:
    return sampling.sample(space, np.random.default_rng(seed))
