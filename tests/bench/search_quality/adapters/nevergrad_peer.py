"""Nevergrad as its users have it: typed parameters; those whose conditions fail are left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, assert_never

import nevergrad as ng

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.optimizers import seeds
from keeptune.search.space import Assignment, Domain, GraphSpace, SearchSpace
from tests.bench.search_quality.adapters import flat
from tests.bench.search_quality.peers import Settings

warnings.filterwarnings("ignore", category=ng.errors.NevergradWarning)
warnings.filterwarnings("ignore", module=r"(nevergrad|cma)\b")


class NevergradPeer:
    def __init__(self, name: str, settings: Settings) -> None:
        self._space: SearchSpace = settings.space
        parametrization = ng.p.Dict(**{p.name: _parameter(p.domain) for p in self._space.free})
        parametrization.random_state = seeds.legacy(settings.seed)
        self._optimizer = ng.optimizers.registry[name](
            parametrization, budget=settings.trials, num_workers=settings.batch
        )
        self._asked: list[Any] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self._asked = [self._optimizer.ask() for _ in range(count)]
        return [flat.assignment(self._space, candidate.value) for candidate in self._asked]

    def tell(self, losses: Sequence[float]) -> None:
        for candidate, loss in zip(self._asked, losses, strict=True):
            self._optimizer.tell(candidate, loss)


def _parameter(domain: Domain) -> Any:
    match domain:
        case FloatRange() | IntRange():
            kind = ng.p.Log if domain.log else ng.p.Scalar
            parameter = kind(lower=domain.min, upper=domain.max)
            return parameter.set_integer_casting() if isinstance(domain, IntRange) else parameter
        case Categories():
            return ng.p.Choice(range(len(domain.options)))
        case Fixed():
            return domain.value
        case GraphSpace():
            raise ValueError("Nevergrad knows no graphs")
        case _:
            assert_never(domain)


def make(variant: str, settings: Settings) -> NevergradPeer:
    return NevergradPeer(variant, settings)
