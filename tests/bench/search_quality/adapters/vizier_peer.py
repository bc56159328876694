"""Vizier's default, GP-UCB with pure exploration in batches."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import assert_never

import jax
from vizier import algorithms
from vizier import pyvizier as vz

# The public module imports all designers, and so packages that only others of them need.
from vizier._src.algorithms.designers.gp_ucb_pe import VizierGPUCBPEBandit

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.space import Assignment, SearchSpace
from tests.bench.search_quality.adapters import flat
from tests.bench.search_quality.peers import Settings

# As Vizier's own programs do: its models need it.
jax.config.update("jax_enable_x64", True)
warnings.filterwarnings("ignore")
logging.getLogger("absl").setLevel(logging.ERROR)


class VizierPeer:
    def __init__(self, settings: Settings) -> None:
        self._space = settings.space
        problem = vz.ProblemStatement(_space(settings.space))
        problem.metric_information.append(
            vz.MetricInformation("loss", goal=vz.ObjectiveMetricGoal.MINIMIZE)
        )
        self._designer = VizierGPUCBPEBandit(problem, rng=jax.random.PRNGKey(settings.seed))
        self._trials = 0
        self._asked: list[vz.Trial] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        suggestions = self._designer.suggest(count)
        first = self._trials + 1
        self._asked = [s.to_trial(i) for i, s in enumerate(suggestions, first)]
        self._trials += len(self._asked)
        return [flat.assignment(self._space, trial.parameters.as_dict()) for trial in self._asked]

    def tell(self, losses: Sequence[float]) -> None:
        for trial, loss in zip(self._asked, losses, strict=True):
            trial.complete(vz.Measurement({"loss": loss}))
        self._designer.update(algorithms.CompletedTrials(self._asked), algorithms.ActiveTrials([]))


def _space(space: SearchSpace) -> vz.SearchSpace:
    found = vz.SearchSpace()
    root = found.root
    for parameter in space.free:
        domain = parameter.domain
        match domain:
            case FloatRange() | IntRange():
                scale = vz.ScaleType.LOG if domain.log else vz.ScaleType.LINEAR
                whole = isinstance(domain, IntRange)
                add = root.add_int_param if whole else root.add_float_param
                add(parameter.name, domain.min, domain.max, scale_type=scale)
            case Categories():
                root.add_categorical_param(parameter.name, flat.indices(domain))
            case Fixed():
                raise ValueError(f"{parameter.name} leaves nothing to choose")
            case _:
                assert_never(domain)
    return found


def make(variant: str, settings: Settings) -> VizierPeer:
    return VizierPeer(settings)
