"""What a client asks of a study, from protobuf to the model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from keeptune.runtime.convert import from_duration
from keeptune.runtime.errors import InvalidInput
from keeptune.search.convert_space import space_from_proto
from keeptune.search.model import (
    DEFAULT_LEASE,
    DEFAULT_MAX_RETRIES,
    Budget,
    Goal,
    Metric,
    Plan,
    Role,
    Study,
)
from keeptune.search.optimizers import registry
from keeptune.search.pruning import (
    AshaPruning,
    ForecastPruning,
    HyperbandPruning,
    MedianPruning,
    Pruning,
)
from keeptune.v1 import search_pb2, types_pb2

_UNPLANNED = Plan(algorithm="", because="", trials=None, seed=0)
_ROLES = {
    search_pb2.METRIC_ROLE_UNSPECIFIED: Role.OBJECTIVE,
    search_pb2.METRIC_ROLE_OBJECTIVE: Role.OBJECTIVE,
    search_pb2.METRIC_ROLE_CONSTRAINT: Role.CONSTRAINT,
    search_pb2.METRIC_ROLE_COST: Role.COST,
}
_GOALS = {types_pb2.GOAL_MAXIMIZE: Goal.MAXIMIZE, types_pb2.GOAL_MINIMIZE: Goal.MINIMIZE}


def study_from_proto(message: search_pb2.Study, field: str) -> Study:
    """The study as it is asked for, right or wrong (see `study_rules`), and not planned yet.

    Raises InvalidInput for what the model cannot even express, NotImplementedYet for graphs.
    """
    study = Study(
        space=space_from_proto(message.space, f"{field}.space"),
        metrics=tuple(
            _metric(metric, f"{field}.metrics[{i}]") for i, metric in enumerate(message.metrics)
        ),
        plan=_UNPLANNED,
        algorithm=message.algorithm.name or registry.DEFAULT,
        warm_start=tuple(message.warm_start),
    )
    return changed(study, message)


def changed(study: Study, message: search_pb2.Study) -> Study:
    """The study with everything that may be changed later as in `message`; labels aside."""
    return replace(
        study,
        display_name=message.display_name,
        budget=Budget(message.budget.max_trials, _max_duration(message.budget)),
        pruning=_pruning(message.pruning),
        lease_duration=from_duration(message.lease_duration) or DEFAULT_LEASE,
        max_retries=(
            message.max_retries if message.HasField("max_retries") else DEFAULT_MAX_RETRIES
        ),
    )


def _metric(message: search_pb2.Metric, field: str) -> Metric:
    role = _ROLES[message.role]
    goal = _GOALS.get(message.goal)
    if goal is None:
        if role is not Role.COST:
            raise InvalidInput(
                field=f"{field}.goal",
                problem="is not set",
                fix="set GOAL_MAXIMIZE or GOAL_MINIMIZE",
            )
        goal = Goal.MINIMIZE
    limit = message.limit if message.HasField("limit") else None
    return Metric(message.name, goal, role, limit, message.noisy)


def _pruning(message: search_pb2.Pruning) -> Pruning | None:
    """Zero stands for the default, as the proto says."""
    match message.WhichOneof("rule"):
        case "median":
            usual = MedianPruning()
            return MedianPruning(
                message.median.startup_trials or usual.startup_trials,
                message.median.warmup_steps or usual.warmup_steps,
            )
        case "asha":
            default = AshaPruning()
            return AshaPruning(
                message.asha.min_steps or default.min_steps,
                message.asha.reduction_factor or default.reduction_factor,
            )
        case "hyperband":
            settings = message.hyperband
            norm = HyperbandPruning(settings.max_steps)
            return HyperbandPruning(
                settings.max_steps,
                settings.min_steps or norm.min_steps,
                settings.reduction_factor or norm.reduction_factor,
            )
        case "forecast":
            return ForecastPruning(
                message.forecast.level or ForecastPruning().level,
                message.forecast.max_steps,
                message.forecast.min_steps,
            )
        case _:
            return None


def _max_duration(budget: search_pb2.Budget) -> timedelta | None:
    if not budget.HasField("max_duration"):
        return None
    return from_duration(budget.max_duration) or timedelta(0)
