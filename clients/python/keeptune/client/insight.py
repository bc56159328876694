"""What a study has taught, as plain immutable values. Intervals and bands are of 80 %."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keeptune.client import values
from keeptune.client.results import enum_name
from keeptune.v1 import search_pb2


@dataclass(frozen=True)
class Share:
    """Which part of a metric's variance is due to a parameter, or to two together; 0 to 1."""

    parameters: tuple[str, ...]
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """Which parameters matter, the most important first.

    `r_squared` is the part of the variance that the underlying model explains for trials it has
    not seen; `remark` says what that means.
    """

    metric: str
    parameters: tuple[Share, ...]
    interactions: tuple[Share, ...]
    trials: int
    r_squared: float
    remark: str


@dataclass(frozen=True)
class Dependence:
    """How a metric follows one parameter, or two, on average over all others.

    `axes` holds each parameter's name and the values looked at. `mean`, and its band from `low` to
    `high`, have an entry for each value; of two parameters the second one changes faster.
    """

    metric: str
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    trials: int
    r_squared: float
    remark: str


@dataclass(frozen=True)
class ModelChoice:
    """Which configuration tried is the best by a model of all results, not by one lucky value.

    `trial` is its latest, `measured` how often it was; `expected` is its value on average, `noise`
    the standard deviation of one measurement, `probability` that of being better than the trial
    with the best value (0 where they are the same).
    """

    trial: str
    measured: int
    expected: float
    expected_interval: tuple[float, float]
    noise: float
    probability: float
    remark: str


@dataclass(frozen=True)
class Outlook:
    """Whether further trials will help.

    `advice` is CONTINUE, OPTIONAL or STOP, `verdict` the same in a sentence, `evidence` what it
    rests on. `improvement_probability` is that of an improvement by more than `tolerance` within
    `further_trials`; `expected_best` the best after them; `regret` the estimated distance to the
    best possible. `by_model` is there for the first objective.
    """

    metric: str
    advice: str
    verdict: str
    evidence: tuple[str, ...]
    trials: int
    further_trials: int
    best: float
    best_trial: str
    expected_best: float
    expected_best_interval: tuple[float, float]
    improvement_probability: float
    tolerance: float
    regret: float
    regret_interval: tuple[float, float]
    by_model: ModelChoice | None = None

    @property
    def helps(self) -> bool:
        """Whether further trials may help."""
        return self.advice != "STOP"


def importance(message: search_pb2.ParameterImportance) -> Importance:
    return Importance(
        metric=message.metric,
        parameters=tuple(_share((each.parameter,), each) for each in message.importances),
        interactions=tuple(_share(each.parameters, each) for each in message.interactions),
        trials=message.trials,
        r_squared=message.r_squared,
        remark=message.remark,
    )


def dependence(message: search_pb2.PartialDependence) -> Dependence:
    return Dependence(
        metric=message.metric,
        axes=tuple(
            (axis.parameter, tuple(values.from_message(value) for value in axis.values))
            for axis in message.axes
        ),
        mean=tuple(message.mean),
        low=tuple(message.low),
        high=tuple(message.high),
        trials=message.trials,
        r_squared=message.r_squared,
        remark=message.remark,
    )


def outlook(message: search_pb2.StudyOutlook) -> Outlook:
    return Outlook(
        metric=message.metric,
        advice=enum_name(message, "advice"),
        verdict=message.verdict,
        evidence=tuple(message.evidence),
        trials=message.trials,
        further_trials=message.further_trials,
        best=message.best,
        best_trial=message.best_trial,
        expected_best=message.expected_best,
        expected_best_interval=(message.expected_best_low, message.expected_best_high),
        improvement_probability=message.improvement_probability,
        tolerance=message.tolerance,
        regret=message.regret,
        regret_interval=(message.regret_low, message.regret_high),
        by_model=_choice(message.by_model) if message.HasField("by_model") else None,
    )


def _choice(message: search_pb2.ModelChoice) -> ModelChoice:
    return ModelChoice(
        trial=message.trial,
        measured=message.measured,
        expected=message.expected,
        expected_interval=(message.expected_low, message.expected_high),
        noise=message.noise,
        probability=message.probability,
        remark=message.remark,
    )


def _share(
    parameters: Iterable[str], message: search_pb2.Importance | search_pb2.InteractionImportance
) -> Share:
    return Share(tuple(parameters), message.value, message.low, message.high)
