"""Optuna's samplers, with the space told trial by trial, as Optuna's users do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import optuna

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange, Value
from keeptune.search.space import Assignment, Domain, GraphSpace, SearchSpace
from tests.bench.search_quality.peers import Settings

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", module="optuna", category=UserWarning)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

_SAMPLERS: dict[str, Callable[[Settings], Any]] = {
    "tpe": lambda settings: optuna.samplers.TPESampler(
        multivariate=True, group=True, constant_liar=settings.batch > 1, seed=settings.seed
    ),
    "gp": lambda settings: optuna.samplers.GPSampler(seed=settings.seed),
    "cmaes": lambda settings: optuna.samplers.CmaEsSampler(seed=settings.seed),
}


class OptunaPeer:
    def __init__(self, space: SearchSpace, sampler: Any) -> None:
        self._space = space
        self.study = optuna.create_study(sampler=sampler)
        self._asked: list[optuna.Trial] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self._asked, points = [], []
        for _ in range(count):
            trial = self.study.ask()
            points.append(self._suggest(trial))
            self._asked.append(trial)
        return points

    def tell(self, losses: Sequence[float]) -> None:
        for trial, loss in zip(self._asked, losses, strict=True):
            self.study.tell(trial, loss)

    def _suggest(self, trial: optuna.Trial) -> Assignment:
        values: dict[str, Value] = {}
        for parameter in self._space.ordered:
            if self._space.is_active(parameter, values):
                values[parameter.name] = _value(trial, parameter.name, parameter.domain)
        return values


def _value(trial: optuna.Trial, name: str, domain: Domain) -> Value:
    match domain:
        case FloatRange():
            return trial.suggest_float(
                name, domain.min, domain.max, step=domain.step or None, log=domain.log
            )
        case IntRange():
            return trial.suggest_int(name, domain.min, domain.max, step=domain.step, log=domain.log)
        case Categories():
            chosen: Any = trial.suggest_categorical(name, domain.options)
            value: Value = chosen
            return value
        case Fixed():
            return domain.value
        case GraphSpace():
            raise ValueError(f"{name!r} is a graph, which Optuna does not know")
        case _:
            assert_never(domain)


def make(variant: str, settings: Settings) -> OptunaPeer:
    return OptunaPeer(settings.space, _SAMPLERS[variant](settings))
