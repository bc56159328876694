"""The tools of the comparison, each with its own searcher, as its users would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keeptune.search.domains import Categories, IntRange
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result
from keeptune.search.pruning import (
    AshaPruning,
    ForecastPruning,
    HyperbandPruning,
    MedianPruning,
    Pruning,
    rule_for,
)
from keeptune.search.space import Assignment, SearchSpace
from tests.bench.early_stopping.simulation import Tool

# What the user of a tool that plans ahead would say.
_PLANNED = 200


class KeeptuneTool:
    """An algorithm and a pruning rule, driven as the service drives them."""

    def __init__(
        self, algorithm: str, pruning: Pruning | None, space: SearchSpace, seed: int
    ) -> None:
        problem = Problem(space, seed, trials=_PLANNED)
        chosen = registry.choose(algorithm, problem, "algorithm")
        self._optimizer = registry.make(chosen.algorithm, problem)
        self._rule = rule_for(pruning) if pruning else None
        self._asked: dict[int, Assignment] = {}

    def suggest(self, trial: int) -> Assignment:
        answer = self._optimizer.ask(trial + 1)
        assert not isinstance(answer, Nothing), answer
        self._asked[trial] = answer.parameters
        return answer.parameters

    def report(self, trial: int, step: int, loss: float) -> bool:
        if self._rule is None:
            return False
        verdict = self._rule.verdict(trial, [(step, loss)])
        self._rule.observe(trial, step, loss)
        return bool(verdict)

    def complete(self, trial: int, step: int, loss: float) -> None:
        if self._rule is not None:
            self._rule.observe(trial, step, loss)
            self._rule.finish(trial, completed=True, loss=loss)
        self._tell(trial, loss)

    def stopped(self, trial: int, step: int, loss: float) -> None:
        assert self._rule is not None
        self._rule.finish(trial, completed=False)
        self._tell(trial, loss)

    def _tell(self, trial: int, loss: float) -> None:
        result = Result(trial + 1, self._asked.pop(trial), Outcome.MEASURED, (loss,))
        self._optimizer.tell(result)


class OptunaTool:
    """TPE with HyperbandPruner (or none), one study and its trials."""

    def __init__(self, space: SearchSpace, steps: int, seed: int, hyperband: bool) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._space = space
        pruner: Any = optuna.pruners.NopPruner()
        if hyperband:
            pruner = optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=steps, reduction_factor=3
            )
        # Hyperband's brackets are drawn from the study's name.
        self._study = optuna.create_study(
            study_name=f"study-{seed}",
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            pruner=pruner,
        )
        self._trials: dict[int, Any] = {}

    def suggest(self, trial: int) -> Assignment:
        asked = self._trials[trial] = self._study.ask()
        values: dict[str, Any] = {}
        for parameter in self._space.parameters:
            domain = parameter.domain
            if isinstance(domain, IntRange):
                values[parameter.name] = asked.suggest_int(
                    parameter.name, domain.min, domain.max, step=domain.step
                )
            else:
                assert isinstance(domain, Categories)
                values[parameter.name] = asked.suggest_categorical(parameter.name, domain.options)
        return values

    def report(self, trial: int, step: int, loss: float) -> bool:
        self._trials[trial].report(loss, step)
        return bool(self._trials[trial].should_prune())

    def complete(self, trial: int, step: int, loss: float) -> None:
        self._trials[trial].report(loss, step)
        self._study.tell(self._trials.pop(trial), loss)

    def stopped(self, trial: int, step: int, loss: float) -> None:
        self._study.tell(self._trials.pop(trial), state=self._optuna.trial.TrialState.PRUNED)


class RayTool:
    """Ray Tune's own ASHAScheduler and searchers, called as its controller calls them.

    Without Ray's processes, which would take seconds a trial.
    """

    def __init__(self, space: SearchSpace, steps: int, seed: int, searcher: str) -> None:
        import numpy as np
        from ray.tune.schedulers import ASHAScheduler

        self._steps = steps
        self._space = space
        self._numpy = np.random.RandomState(seed)
        self._scheduler = ASHAScheduler(
            time_attr="training_iteration",
            metric="loss",
            mode="min",
            max_t=steps,
            grace_period=1,
            reduction_factor=3,
        )
        self._searcher: Any = None
        if searcher == "optuna":
            from ray.tune.search.optuna import OptunaSearch

            self._searcher = OptunaSearch(
                space=self._domains(), metric="loss", mode="min", seed=seed
            )
        self._trials: dict[int, Any] = {}

    def _domains(self) -> dict[str, Any]:
        from ray import tune

        domains: dict[str, Any] = {}
        for parameter in self._space.parameters:
            domain = parameter.domain
            if isinstance(domain, IntRange):
                # Its qrandint rounds to multiples of the step, which are other values.
                values = list(range(domain.min, domain.max + 1, domain.step))
                even = tune.randint(domain.min, domain.max + 1)
                domains[parameter.name] = even if domain.step == 1 else tune.choice(values)
            else:
                assert isinstance(domain, Categories)
                domains[parameter.name] = tune.choice(list(domain.options))
        return domains

    def suggest(self, trial: int) -> Assignment:
        from types import SimpleNamespace

        if self._searcher is not None:
            values = dict(self._searcher.suggest(str(trial)))
        else:
            # What BasicVariantGenerator, its default, does with them.
            values = {
                name: domain.sample(random_state=self._numpy)
                for name, domain in self._domains().items()
            }
        self._trials[trial] = SimpleNamespace(trial_id=str(trial))
        self._scheduler.on_trial_add(None, self._trials[trial])
        return {name: v.item() if hasattr(v, "item") else v for name, v in values.items()}

    def report(self, trial: int, step: int, loss: float) -> bool:
        result = {"training_iteration": step, "loss": loss, "config": {}}
        if self._searcher is not None:
            self._searcher.on_trial_result(str(trial), result)
        action = self._scheduler.on_trial_result(None, self._trials[trial], result)
        return bool(action == "STOP")

    def complete(self, trial: int, step: int, loss: float) -> None:
        self._end(trial, step, loss)

    def stopped(self, trial: int, step: int, loss: float) -> None:
        self._end(trial, step, loss)

    def _end(self, trial: int, step: int, loss: float) -> None:
        result = {"training_iteration": step, "loss": loss, "config": {}}
        self._scheduler.on_trial_complete(None, self._trials.pop(trial), result)
        if self._searcher is not None:
            self._searcher.on_trial_complete(str(trial), result)


Maker = Callable[[SearchSpace, int, int], Tool]


def _keeptune(algorithm: str, pruning: Callable[[int], Pruning | None]) -> Maker:
    return lambda space, steps, seed: KeeptuneTool(algorithm, pruning(steps), space, seed)


def _rules() -> dict[str, Callable[[int], Pruning | None]]:
    return {
        "none": lambda steps: None,
        "median": lambda steps: MedianPruning(),
        "asha": lambda steps: AshaPruning(),
        "hyperband": lambda steps: HyperbandPruning(max_steps=steps),
        "forecast": lambda steps: ForecastPruning(max_steps=steps),
    }


TOOLS: dict[str, Maker] = {
    "optuna tpe + hyperband": lambda space, steps, seed: OptunaTool(space, steps, seed, True),
    "optuna tpe": lambda space, steps, seed: OptunaTool(space, steps, seed, False),
    "ray random + asha": lambda space, steps, seed: RayTool(space, steps, seed, "random"),
    "ray optuna + asha": lambda space, steps, seed: RayTool(space, steps, seed, "optuna"),
} | {
    f"{algorithm} + {name}": _keeptune(algorithm, rule)
    for algorithm in ("auto", "random", "tpe")
    for name, rule in _rules().items()
}
