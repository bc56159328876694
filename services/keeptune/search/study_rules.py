"""What a study must keep to; every breach is named by its field, with the way out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from keeptune.runtime.errors import Violation
from keeptune.search import space_rules
from keeptune.search.model import Role, Study
from keeptune.search.optimizers import population_based, registry
from keeptune.search.pruning import ForecastPruning, HyperbandPruning, MedianPruning

SHORTEST_LEASE = timedelta(milliseconds=100)
LONGEST_LEASE = timedelta(days=7)


def violations(study: Study, field: str) -> Iterator[Violation]:
    """All that is wrong with a new study, which stands in `field` of the request."""
    yield from space_rules.violations(study.space, f"{field}.space")
    yield from _metrics(study, field)
    if study.warm_start and _is_population(study):
        yield Violation(
            f"{field}.warm_start",
            "is set, but members of a population continue from checkpoints of its own",
            "leave it out, or use another algorithm",
        )
    yield from changeable(study, field)


def changeable(study: Study, field: str) -> Iterator[Violation]:
    """What is wrong with the fields that may be changed later."""
    yield from _budget(study, field)
    yield from _pruning(study, field)
    if not SHORTEST_LEASE <= study.lease_duration <= LONGEST_LEASE:
        yield Violation(
            f"{field}.lease_duration",
            f"is {study.lease_duration.total_seconds():g} s",
            "give 0.1 s to 7 days",
        )


def _metrics(study: Study, field: str) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for i, metric in enumerate(study.metrics):
        here = f"{field}.metrics[{i}]"
        first = seen.setdefault(metric.name, i)
        if first != i:
            yield Violation(
                f"{here}.name", f"is {metric.name!r}, as of metrics[{first}]", "name each once"
            )
        if metric.role is Role.CONSTRAINT:
            if metric.limit is None:
                yield Violation(f"{here}.limit", "is not set", "give the worst feasible value")
            elif not math.isfinite(metric.limit):
                yield Violation(f"{here}.limit", f"is {metric.limit}", "give a finite number")
        elif metric.limit is not None:
            yield Violation(
                f"{here}.limit",
                f"is set, but the metric is no constraint but {metric.role}",
                "leave it out, or set METRIC_ROLE_CONSTRAINT",
            )
        if metric.noisy and metric.role is not Role.OBJECTIVE:
            yield Violation(
                f"{here}.noisy",
                f"is set, but the metric is no objective but {metric.role}",
                "leave it out: only what is optimised is measured again",
            )
    if not study.objectives:
        yield Violation(f"{field}.metrics", "has no objective", "add one with its goal")


def _budget(study: Study, field: str) -> Iterator[Violation]:
    duration = study.budget.max_duration
    if duration is not None and duration <= timedelta(0):
        yield Violation(
            f"{field}.budget.max_duration",
            f"is {duration.total_seconds():g} s",
            "give a positive duration, or none",
        )
    if not study.budget.max_trials and duration is None and not _ends_by_itself(study):
        yield Violation(
            f"{field}.budget",
            "has no limit",
            "set max_trials or max_duration; only a finite grid needs neither",
        )


def _ends_by_itself(study: Study) -> bool:
    chosen = study.plan.algorithm or study.algorithm
    if chosen not in ("grid", registry.DEFAULT):
        return False
    return all(p.domain.cardinality is not None for p in study.space.parameters)


def _pruning(study: Study, field: str) -> Iterator[Violation]:
    if study.pruning is None:
        return
    if len(study.objectives) > 1:
        yield Violation(
            f"{field}.pruning",
            f"is set, but the study has {len(study.objectives)} objectives",
            "prune studies with one objective only",
        )
    if _is_population(study):
        yield Violation(
            f"{field}.pruning",
            "is set, but population-based training replaces poor members by itself",
            "leave it out, or use another algorithm",
        )
    if isinstance(study.pruning, MedianPruning):
        return
    if isinstance(study.pruning, ForecastPruning):
        yield from _forecast(study.pruning, f"{field}.pruning.forecast")
        return
    rule = "hyperband" if isinstance(study.pruning, HyperbandPruning) else "asha"
    if study.pruning.reduction_factor < 2:
        yield Violation(
            f"{field}.pruning.{rule}.reduction_factor",
            f"is {study.pruning.reduction_factor}",
            "give at least 2",
        )
    elif isinstance(study.pruning, HyperbandPruning):
        least = study.pruning.min_steps * study.pruning.reduction_factor
        if study.pruning.max_steps < least:
            yield Violation(
                f"{field}.pruning.hyperband.max_steps",
                f"is {study.pruning.max_steps}",
                f"give how many steps a whole trial has: at least {least}, or it is one bracket",
            )


def _is_population(study: Study) -> bool:
    return study.algorithm == population_based.ALGORITHM.name


def _forecast(pruning: ForecastPruning, field: str) -> Iterator[Violation]:
    if not 0 < pruning.level < 0.5:
        yield Violation(f"{field}.level", f"is {pruning.level}", "give a probability below 0.5")
    if pruning.max_steps and pruning.min_steps >= pruning.max_steps:
        yield Violation(
            f"{field}.min_steps",
            f"is {pruning.min_steps}, and a trial has {pruning.max_steps} steps",
            "judge trials before their last step",
        )
