"""Which running trials are not worth finishing. Pure: curves in, a verdict out.

A rule follows a study's learning curves by `observe` and `finish`, and judges a trial by `verdict`.
Losses: less is better.

settings       what a study asks for, and the interface of all rules
median         below the median of those completed
halving        ASHA and Hyperband
forecast       improbable to beat the best by the last step
extrapolation  what the forecast computes with: a distribution of a curve's last loss
"""

from __future__ import annotations

from typing import assert_never

from keeptune.search.pruning.forecast import ForecastRule
from keeptune.search.pruning.halving import AshaRule, HyperbandRule
from keeptune.search.pruning.median import MedianRule
from keeptune.search.pruning.settings import (
    AshaPruning,
    ForecastPruning,
    HyperbandPruning,
    MedianPruning,
    Point,
    Pruning,
    PruningRule,
)

__all__ = [
    "AshaPruning",
    "AshaRule",
    "ForecastPruning",
    "ForecastRule",
    "HyperbandPruning",
    "HyperbandRule",
    "MedianPruning",
    "MedianRule",
    "Point",
    "Pruning",
    "PruningRule",
    "rule_for",
]


def rule_for(settings: Pruning) -> PruningRule:
    match settings:
        case MedianPruning():
            return MedianRule(settings)
        case AshaPruning():
            return AshaRule(settings)
        case HyperbandPruning():
            return HyperbandRule(settings)
        case ForecastPruning():
            return ForecastRule(settings)
        case _:
            assert_never(settings)
