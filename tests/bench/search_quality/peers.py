"""Every method of the comparison by name, behind one ask/tell interface.

`optuna-tpe`, `nevergrad-NGOpt`, ... are the public tools, used as their own users would; any other
name is one of keeptune's algorithms (`auto`, `random`, `bayesian`, `nevergrad/CMA`, ...).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keeptune.search.space import Assignment, SearchSpace

_ADAPTERS = "tests.bench.search_quality.adapters."


class Peer(Protocol):
    def ask(self, count: int) -> Sequence[Assignment]:
        """Up to `count` points to be evaluated side by side; fewer if it has no more."""

    def tell(self, losses: Sequence[float]) -> None:
        """What came of the points last asked for, in their order."""


@dataclass(frozen=True)
class Settings:
    """What a method knows beforehand: how many trials there will be, and how many at once."""

    space: SearchSpace
    seed: int
    trials: int
    batch: int


@dataclass(frozen=True)
class Method:
    """`package` is the distribution to be installed; None = keeptune's own."""

    name: str
    adapter: str
    variant: str
    package: str | None = None

    def make(self, settings: Settings) -> Peer:
        module = importlib.import_module(_ADAPTERS + self.adapter)
        peer: Peer = module.make(self.variant, settings)
        return peer

    def version(self) -> str | None:
        """Of the public tool, if it is installed; keeptune's algorithms change all the time."""
        if self.package is None:
            return None
        try:
            return f"{self.package} {importlib.metadata.version(self.package)}"
        except importlib.metadata.PackageNotFoundError:
            return None

    @functools.cache  # noqa: B019 there are few methods
    def missing(self) -> str | None:
        """Why it cannot be used here; None if it can."""
        try:
            importlib.import_module(_ADAPTERS + self.adapter)
        except ImportError as absent:
            return f"{self.name} is skipped: {absent}"
        return None


# By adapter: the distribution to be installed, and its variants by the name they get here.
_TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "optuna_peer": (
        "optuna",
        {"optuna-tpe": "tpe", "optuna-gp": "gp", "optuna-cmaes": "cmaes"},
    ),
    "nevergrad_peer": (
        "nevergrad",
        {f"nevergrad-{name}": name for name in ("NGOpt", "OnePlusOne", "TwoPointsDE", "CMA")},
    ),
    "hebo_peer": ("HEBO", {"hebo": ""}),
    "ax_peer": ("ax-platform", {"ax": ""}),
    "smac_peer": ("smac", {"smac": ""}),
    "vizier_peer": ("google-vizier", {"vizier": ""}),
}
PUBLIC = {
    name: Method(name, adapter, variant, package)
    for adapter, (package, variants) in _TOOLS.items()
    for name, variant in variants.items()
}


def method(name: str) -> Method:
    return PUBLIC.get(name) or Method(name, "keeptune_peer", name)
