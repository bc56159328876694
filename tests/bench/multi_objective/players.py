"""Every method of the comparison behind one interface: keeptune's own, and the public tools."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keeptune.search.optimizers import registry, repeating, seeds
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result
from keeptune.search.optimizers.bayesian.encoding import Encoding
from keeptune.search.optimizers.bayesian.incumbents import Incumbents
from keeptune.search.space import Assignment, SearchSpace


@dataclass(frozen=True)
class Settings:
    """What a method knows beforehand."""

    space: SearchSpace
    seed: int
    trials: int
    objectives: int
    constraints: int = 0
    noisy: bool = False


class Player(Protocol):
    def ask(self) -> Assignment | None:
        """None = it has no more."""

    def tell(self, losses: Sequence[float], broken: Sequence[float]) -> None: ...

    def choice(self) -> Assignment | None:
        """What it would have a user take in the end, if it says; None = the best measured."""


class Keeptune:
    """`auto/model` takes what a model of the noisy results thinks best, `auto/noisy` also repeats
    leading points: what a study gets whose metric is declared noisy."""

    def __init__(self, name: str, settings: Settings) -> None:
        name, _, self._mode = name.partition("/") if settings.noisy else (name, "", "")
        problem = Problem(
            settings.space,
            settings.seed,
            settings.trials,
            settings.objectives,
            settings.constraints,
        )
        self._optimizer = registry.make(
            registry.choose(name, problem, "algorithm").algorithm, problem
        )
        if self._mode == "noisy":
            self._optimizer = repeating.made_fit(self._optimizer, problem)
        self._space, self._seed = settings.space, settings.seed
        self._results: list[Result] = []
        self._number = 0
        self._asked: Assignment = {}

    def ask(self) -> Assignment | None:
        answer = self._optimizer.ask(self._number + 1)
        if isinstance(answer, Nothing):
            return None
        self._number += 1
        self._asked = answer.parameters
        return self._asked

    def tell(self, losses: Sequence[float], broken: Sequence[float]) -> None:
        result = Result(self._number, self._asked, Outcome.MEASURED, tuple(losses), tuple(broken))
        self._results.append(result)
        self._optimizer.tell(result)

    def choice(self) -> Assignment | None:
        if not self._mode:
            return None
        encoding = Encoding(self._space)
        rng = seeds.generator(self._seed, 1)
        known = Incumbents.of(encoding, self._results, rng, samples=8)
        return None if known is None else encoding.decode(known.rows[known.best])


def optuna_player(kind: str, settings: Settings) -> Any:
    import optuna

    from tests.bench.search_quality.adapters.optuna_peer import OptunaPeer

    constraints = (lambda trial: trial.user_attrs["broken"]) if settings.constraints else None
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(
            multivariate=True, group=True, seed=settings.seed, constraints_func=constraints
        ),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(
            population_size=min(50, settings.trials // 5),
            seed=settings.seed,
            constraints_func=constraints,
        ),
        "gp": lambda: optuna.samplers.GPSampler(seed=settings.seed, constraints_func=constraints),
    }

    class OptunaPlayer(OptunaPeer):
        def __init__(self) -> None:
            self._space = settings.space
            self._study = optuna.create_study(
                sampler=samplers[kind](), directions=["minimize"] * settings.objectives
            )

        def ask(self) -> Assignment:  # type: ignore[override]
            self._trial = self._study.ask()
            return self._suggest(self._trial)

        def tell(self, losses: Sequence[float], broken: Sequence[float]) -> None:  # type: ignore[override]
            self._trial.set_user_attr("broken", list(broken))
            self._study.tell(self._trial, list(losses))

        def choice(self) -> None:
            return None

    return OptunaPlayer()


def ax_player(kind: str, settings: Settings) -> Any:
    """Ax with what it chooses by itself: Sobol, then noisy expected hypervolume improvement, or
    for one objective noisy expected improvement, by BoTorch."""
    import torch
    from ax.api.client import Client

    from tests.bench.search_quality.adapters import ax_peer, flat

    class AxPlayer:
        def __init__(self) -> None:
            torch.manual_seed(settings.seed)
            torch.set_num_threads(1)
            self._client = Client(random_seed=settings.seed)
            parameters = [ax_peer._parameter(p) for p in settings.space.free]
            self._client.configure_experiment(parameters=parameters)
            self._client.configure_optimization(
                objective=", ".join(f"-loss{i}" for i in range(settings.objectives)),
                outcome_constraints=[f"broken{i} <= 0" for i in range(settings.constraints)],
            )

        def ask(self) -> Assignment:
            ((self._index, values),) = self._client.get_next_trials(max_trials=1).items()
            return flat.assignment(settings.space, values)

        def tell(self, losses: Sequence[float], broken: Sequence[float]) -> None:
            data = {f"loss{i}": loss for i, loss in enumerate(losses)}
            data |= {f"broken{i}": by for i, by in enumerate(broken)}
            self._client.complete_trial(trial_index=self._index, raw_data=data)

        def choice(self) -> None:
            return None

    return AxPlayer()


_TOOLS = {
    "optuna-tpe": ("optuna", optuna_player, "tpe"),
    "optuna-nsga2": ("optuna", optuna_player, "nsga2"),
    "optuna-gp": ("optuna", optuna_player, "gp"),
    "ax": ("ax-platform", ax_player, ""),
}


def make(name: str, settings: Settings) -> Player:
    """A public tool, or one of keeptune's algorithms by name."""
    if name in _TOOLS:
        _, maker, kind = _TOOLS[name]
        player: Player = maker(kind, settings)
        return player
    return Keeptune(name, settings)


def version(name: str) -> str | None:
    """Of a public tool, whose runs are kept; None for keeptune's own, which change all the time."""
    if name not in _TOOLS:
        return None
    package = _TOOLS[name][0]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
