"""How a study searches: metrics and pruning, as they are written in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import search_pb2, types_pb2

N = TypeVar("N", bound=int)

Goal: TypeAlias = Literal["maximize", "minimize"]

_GOALS = {"maximize": types_pb2.GOAL_MAXIMIZE, "minimize": types_pb2.GOAL_MINIMIZE}
_ROLES = {
    "objective": search_pb2.METRIC_ROLE_OBJECTIVE,
    "constraint": search_pb2.METRIC_ROLE_CONSTRAINT,
    "cost": search_pb2.METRIC_ROLE_COST,
}


@dataclass(frozen=True)
class Metric:
    """A measured number. A constraint is feasible while its value is within `limit`.

    `noisy` says of an objective that the same parameters may give another value: leading points
    are then measured again where that pays.
    """

    name: str
    goal: Goal = "maximize"
    role: Literal["objective", "constraint", "cost"] = "objective"
    limit: float | None = None
    noisy: bool = False


@dataclass(frozen=True)
class Median:
    """Prunes what is below the median of finished trials at the same step."""

    startup_trials: int = 4
    warmup_steps: int = 1


@dataclass(frozen=True)
class Asha:
    """Lets the best 1 / reduction_factor of the trials pass each rung of steps."""

    min_steps: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True)
class Hyperband:
    """Races like `Asha`'s side by side, from bold to cautious.

    `max_steps` = how many steps a trial has that is not pruned.
    """

    max_steps: int
    min_steps: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True)
class Forecast:
    """Stops a trial when its chance to beat the best by its last step is below `level`.

    `max_steps` = how many steps a trial has that is not pruned; 0 = as many as the longest
    completed trial reported. Trials are not judged up to `min_steps`, nor at their first two
    reports.
    """

    level: float = 0.05
    max_steps: int = 0
    min_steps: int = 0


Pruning: TypeAlias = (
    Median | Asha | Hyperband | Forecast | Literal["median", "asha", "forecast"] | None
)


def metrics_to_messages(
    metric: str | Metric | Sequence[Metric], goal: Goal
) -> list[search_pb2.Metric]:
    """`goal` is for a metric that is given by its name alone."""
    match metric:
        case str():
            wanted: Sequence[Metric] = [Metric(metric, goal)]
        case Metric():
            wanted = [metric]
        case _:
            wanted = metric
    return [
        search_pb2.Metric(
            name=each.name,
            goal=_choice(_GOALS, each.goal, "goal"),
            role=_choice(_ROLES, each.role, "role"),
            limit=each.limit,
            noisy=each.noisy,
        )
        for each in wanted
    ]


def pruning_to_message(pruning: Pruning) -> search_pb2.Pruning | None:
    match pruning:
        case None:
            return None
        case "median":
            return search_pb2.Pruning(median=search_pb2.MedianPruning())
        case "asha":
            return search_pb2.Pruning(asha=search_pb2.AshaPruning())
        case "forecast":
            return search_pb2.Pruning(forecast=search_pb2.ForecastPruning())
        case Median():
            return search_pb2.Pruning(
                median=search_pb2.MedianPruning(
                    startup_trials=pruning.startup_trials, warmup_steps=pruning.warmup_steps
                )
            )
        case Asha():
            return search_pb2.Pruning(
                asha=search_pb2.AshaPruning(
                    min_steps=pruning.min_steps, reduction_factor=pruning.reduction_factor
                )
            )
        case Hyperband():
            return search_pb2.Pruning(
                hyperband=search_pb2.HyperbandPruning(
                    max_steps=pruning.max_steps,
                    min_steps=pruning.min_steps,
                    reduction_factor=pruning.reduction_factor,
                )
            )
        case Forecast():
            return search_pb2.Pruning(
                forecast=search_pb2.ForecastPruning(
                    level=pruning.level, max_steps=pruning.max_steps, min_steps=pruning.min_steps
                )
            )
        case _:
            raise InvalidInput(
                field="pruning",
                problem=f"is {pruning!r}",
                fix=(
                    'give "forecast", "asha", "median", Forecast(...), Asha(...), Hyperband(...), '
                    "Median(...) or None"
                ),
            )


def _choice(known: Mapping[str, N], text: str, field: str) -> N:
    if text not in known:
        raise InvalidInput(
            field=field, problem=f"is {text!r}", fix=f"use one of {', '.join(known)}"
        )
    return known[text]
