"""Ax with what it chooses by itself: Sobol, then BoTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, assert_never

import torch
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.space import Assignment, Parameter
from tests.bench.search_quality.adapters import flat
from tests.bench.search_quality.peers import Settings

warnings.filterwarnings("ignore")
set_ax_logger_levels(logging.ERROR)


class AxPeer:
    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self._space = settings.space
        self._client = Client(random_seed=settings.seed)
        self._client.configure_experiment(parameters=[_parameter(p) for p in self._space.free])
        self._client.configure_optimization(objective="-loss")
        self._asked: list[int] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        trials = self._client.get_next_trials(max_trials=count)
        self._asked = list(trials)
        return [flat.assignment(self._space, values) for values in trials.values()]

    def tell(self, losses: Sequence[float]) -> None:
        for trial, loss in zip(self._asked, losses, strict=True):
            self._client.complete_trial(trial_index=trial, raw_data={"loss": loss})


def _parameter(parameter: Parameter) -> Any:
    domain = parameter.domain
    match domain:
        case FloatRange() | IntRange():
            return RangeParameterConfig(
                name=parameter.name,
                bounds=(domain.min, domain.max),
                parameter_type="int" if isinstance(domain, IntRange) else "float",
                scaling="log" if domain.log else "linear",
            )
        case Categories():
            return ChoiceParameterConfig(
                name=parameter.name,
                values=flat.indices(domain),
                parameter_type="str",
                is_ordered=False,
            )
        case Fixed():
            raise ValueError(f"{parameter.name} leaves nothing to choose")
        case _:
            assert_never(domain)


def make(variant: str, settings: Settings) -> AxPeer:
    return AxPeer(settings)
