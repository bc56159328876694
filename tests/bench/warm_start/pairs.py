"""What is searched, and the earlier studies it may learn from.

The searched tasks are those of tests/bench/search_quality, of which the best and random search are
known. Kinds: `drift`, the same features, other rows; `related`, the same space on other data;
`changed`, another space, on the same or other data; `adverse`, losses that mislead (inverted,
shuffled) or mean something else; `mixed`, one that helps beside one that misleads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tests.bench.search_quality import data
from tests.bench.search_quality import families as f
from tests.bench.search_quality import spaces as s
from tests.bench.search_quality.tasks import SCALING, TASKS, Task

Floats = np.ndarray[Any, np.dtype[np.float64]]

KINDS = ("drift", "related", "changed", "adverse", "mixed")


@dataclass(frozen=True)
class Source:
    """A task that was searched before, and what becomes of its losses.

    Sources with one `played_as` are one study, however their losses are twisted.
    """

    name: str
    played_as: str
    task: Task
    warp: Callable[[Floats], Floats] = np.asarray


@dataclass(frozen=True)
class Pair:
    """A task to be searched, and what was searched before."""

    target: str
    kind: str
    sources: tuple[Source, ...]

    @property
    def name(self) -> str:
        return f"{self.target} < {' + '.join(source.name for source in self.sources)}"


def _other_data(name: str, dataset: str) -> Source:
    on = f"{name} on {dataset}"
    return Source(on, on, replace(TASKS[name], dataset=dataset))


def _task(name: str) -> Source:
    return Source(name, name, TASKS[name])


def _inverted(name: str) -> Source:
    return replace(_task(name), name=f"{name} inverted", warp=lambda losses: -losses)


def _shuffled(name: str) -> Source:
    def warp(losses: Floats) -> Floats:
        return np.random.default_rng(len(losses)).permutation(losses)

    return replace(_task(name), name=f"{name} shuffled", warp=warp)


def _scaled(source: Source) -> Source:
    return replace(source, name=f"{source.name}, x 1000", warp=lambda losses: 1000 * losses + 5)


def _narrow_svm() -> Source:
    """No scaling to choose, and other ranges."""
    space = s.space(s.real("c", 1e-1, 1e6, log=True), s.real("gamma", 1e-8, 1e-2, log=True))
    name = "svm-digits, other ranges"
    return Source(name, name, replace(TASKS["svm-digits"], space=space))


def _mlp_diabetes() -> Source:
    name = "mlp-diabetes, Adam only"
    make = partial(f.mlp, regression=True)
    return Source(name, name, Task(name, "diabetes", data.squared_error, s.space(*f.MLP), make))


def _fewer_families() -> Source:
    """Three of the six families of pipeline-wine."""
    whole = TASKS["pipeline-wine"]
    kept = ("mlp", "forest", "knn")
    own = (p for p in whole.space.parameters if p.name.partition("_")[0] in kept)
    space = s.space(s.choice("family", kept), SCALING, *own)
    name = "pipeline-wine, 3 families"
    return Source(name, name, replace(whole, space=space))


PAIRS = (
    Pair("svm-digits", "drift", (_other_data("svm-digits", "more_digits"),)),
    Pair("mlp-digits", "drift", (_other_data("mlp-digits", "more_digits"),)),
    Pair("boosting-cancer", "drift", (_other_data("boosting-cancer", "more_breast_cancer"),)),
    Pair("pipeline-cancer", "drift", (_other_data("pipeline-cancer", "more_breast_cancer"),)),
    Pair("sgd-digits", "drift", (_other_data("sgd-digits", "digits"),)),
    Pair("boosting-cancer", "related", (_task("boosting-diabetes"),)),
    Pair("mlp-digits", "related", (_task("mlp-iris"),)),
    Pair("logistic-cancer", "related", (_other_data("logistic-cancer", "wine"),)),
    Pair("svm-digits", "related", (_other_data("svm-digits", "wine"),)),
    Pair("svm-cancer", "related", (_other_data("svm-cancer", "digits"),)),
    Pair("gradient-wine", "related", (_scaled(_other_data("gradient-wine", "iris")),)),
    Pair("pipeline-cancer", "related", (_other_data("pipeline-cancer", "wine"),)),
    Pair("deep-digits", "related", (_other_data("deep-digits", "wine"),)),
    Pair("svr-kernels", "changed", (_task("svr-diabetes"),)),
    Pair("mlp-diabetes", "changed", (_mlp_diabetes(),)),
    Pair("pipeline-wine", "changed", (_fewer_families(),)),
    Pair("svm-digits", "changed", (_narrow_svm(),)),
    Pair("forest-wine", "changed", (_task("extra-digits"),)),
    Pair("boosting-cancer", "adverse", (_inverted("boosting-diabetes"),)),
    Pair("mlp-digits", "adverse", (_inverted("mlp-digits"),)),
    Pair("svm-cancer", "adverse", (_inverted("svm-cancer"),)),
    Pair("logistic-cancer", "adverse", (_inverted("logistic-cancer"),)),
    Pair("pipeline-cancer", "adverse", (_shuffled("pipeline-cancer"),)),
    Pair("svr-kernels", "adverse", (_shuffled("svr-diabetes"),)),
    Pair("forest-wine", "adverse", (_shuffled("forest-wine"),)),
    Pair("gradient-wine", "adverse", (_task("boosting-diabetes"),)),
    Pair(
        "pipeline-cancer",
        "mixed",
        (_other_data("pipeline-cancer", "wine"), _inverted("pipeline-cancer")),
    ),
    Pair("svm-digits", "mixed", (_inverted("svm-digits"), _other_data("svm-digits", "wine"))),
)
