"""How like two graphs are in structure, and fingerprints that tell them apart.

By Weisfeiler-Lehman labels: each node is named by its kind, then by its kind and its inputs'
names, and so on (Shervashidze et al., Weisfeiler-Lehman Graph Kernels, JMLR 2011).
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from keeptune.search.graphs.values import Graph

_ROUNDS = 3


def distance(one: Graph, other: Graph) -> float:
    """From 0 (the same kinds, joined alike) to 1 (no kind in common); parameters aside."""
    shares = []
    for mine, theirs in zip(labels(one), labels(other), strict=True):
        shared = (mine & theirs).total()
        shares.append(shared / (mine | theirs).total())
    return 1.0 - sum(shares) / len(shares)


def labels(graph: Graph) -> list[Counter[str]]:
    """How often each label stands in the graph, round by round."""
    names = [node.kind for node in graph.nodes]
    rounds = [Counter(names)]
    for _ in range(_ROUNDS):
        known = ["", *names]
        names = [
            _short(f"{node.kind}({','.join(sorted(known[i] for i in node.inputs))})")
            for node in graph.nodes
        ]
        rounds.append(Counter(names))
    return rounds


def fingerprint(graph: Graph) -> str:
    """The same in every process; differs with the structure and with every parameter."""
    return _short(repr(graph.canonical))


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
