"""SMAC with its facade for hyper-parameters (random forest); it knows conditions."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

import ConfigSpace
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.space import Assignment, Condition, Parameter
from tests.bench.search_quality.peers import Settings

warnings.filterwarnings("ignore")


class SmacPeer:
    def __init__(self, settings: Settings) -> None:
        self._space = settings.space
        # It insists on writing a folder.
        self._folder = tempfile.TemporaryDirectory(prefix="smac-")
        scenario = Scenario(
            self._configuration_space(settings.seed),
            output_directory=Path(self._folder.name),
            deterministic=True,
            n_trials=settings.trials,
            seed=settings.seed,
        )
        self._smac = HyperparameterOptimizationFacade(
            scenario, _never_called, overwrite=True, logging_level=False
        )
        self._asked: list[TrialInfo] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self._asked = [self._smac.ask() for _ in range(count)]
        return [self._assignment(dict(info.config)) for info in self._asked]

    def tell(self, losses: Sequence[float]) -> None:
        for info, loss in zip(self._asked, losses, strict=True):
            self._smac.tell(info, TrialValue(cost=loss), save=False)

    def _configuration_space(self, seed: int) -> ConfigSpace.ConfigurationSpace:
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        for parameter in self._space.ordered:
            space.add(_parameter(parameter))
        for parameter in self._space.ordered:
            conditions = [
                _condition(space[parameter.name], space[c.parent], c, self._space.by_name[c.parent])
                for c in parameter.conditions
            ]
            if len(conditions) == 1:
                space.add(conditions[0])
            elif conditions:
                space.add(ConfigSpace.AndConjunction(*conditions))
        return space

    def _assignment(self, values: dict[str, Any]) -> Assignment:
        assignment: dict[str, Any] = {}
        for parameter in self._space.parameters:
            if parameter.name not in values:
                continue
            value, domain = values[parameter.name], parameter.domain
            if isinstance(domain, Categories):
                value = domain.options[int(value)]
            elif isinstance(domain, FloatRange | IntRange):
                # numpy's numbers are not those that a space holds.
                value = int(value) if isinstance(domain, IntRange) else float(value)
            assignment[parameter.name] = value
        return assignment


def _parameter(parameter: Parameter) -> Any:
    domain = parameter.domain
    match domain:
        case FloatRange():
            return ConfigSpace.Float(parameter.name, (domain.min, domain.max), log=domain.log)
        case IntRange():
            return ConfigSpace.Integer(parameter.name, (domain.min, domain.max), log=domain.log)
        case Categories():
            return ConfigSpace.Categorical(parameter.name, list(range(len(domain.options))))
        case Fixed():
            return ConfigSpace.Constant(parameter.name, domain.value)
        case _:
            assert_never(domain)


def _condition(child: Any, parent: Any, condition: Condition, original: Parameter) -> Any:
    if condition.is_range:
        domain = original.domain
        if not isinstance(domain, IntRange):
            raise ValueError("only ranges of integers are translated")
        allowed: list[Any] = [v for v in domain.values(0) if condition.holds(v)]
    else:
        assert isinstance(original.domain, Categories)
        options = enumerate(original.domain.options)
        allowed = [i for i, option in options if condition.holds(option)]
    return ConfigSpace.InCondition(child, parent, allowed)


def _never_called(config: object, seed: int = 0) -> float:
    raise AssertionError("SMAC is only asked and told here")


def make(variant: str, settings: Settings) -> SmacPeer:
    return SmacPeer(settings)
