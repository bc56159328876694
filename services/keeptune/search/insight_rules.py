"""What can be asked of a study, and when it has too little to tell."""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.search.insight.cube import Cube
from keeptune.search.model import Metric, Study

FEWEST_TRIALS = 10


def metric_of(study: Study, name: str) -> Metric:
    """The metric of that name, the first objective for none. Raises InvalidInput."""
    if not name:
        return study.objectives[0]
    for metric in study.metrics:
        if metric.name == name:
            return metric
    known = ", ".join(metric.name for metric in study.metrics)
    raise InvalidInput(
        field="metric", problem=f"is {name!r}, which the study has not", fix=f"use one of {known}"
    )


def check_parameters(study: Study, names: Sequence[str]) -> None:
    """Raises InvalidInput for one that is not there, or has nothing to choose."""
    free = [parameter.name for parameter in Cube.of(study.space).parameters]
    for i, name in enumerate(names):
        if name in free:
            continue
        fixed = name in study.space.by_name
        raise InvalidInput(
            field=f"parameters[{i}]",
            problem=f"is {name!r}, which " + ("has no range" if fixed else "the space has not"),
            fix=f"use {', '.join(free[:20])}" if free else "the space leaves nothing to choose",
        )


def nothing_to_choose(study: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{study} leaves nothing to choose, so nothing matters",
        fix="give a study parameters with more than one value",
        reason="NOTHING_TO_CHOOSE",
    )


def constant(study: str, metric: Metric, have: int, so: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{metric.name} is the same in all {have} completed trials of {study}, so {so}",
        fix="name another metric, or complete more trials",
        reason="CONSTANT_METRIC",
    )


def too_few(study: str, metric: Metric, have: int, where: str = "") -> FailedPrecondition:
    missing = FEWEST_TRIALS - have
    noun = "trial" if missing == 1 else "trials"
    return FailedPrecondition(
        f"{study} has {have} completed trials with {metric.name}{f' {where}' if where else ''}, "
        f"too few to learn from: {missing} more {noun} must complete",
        fix=f"complete {missing} more {noun}, or add known results with AddTrials",
        reason="TOO_FEW_TRIALS",
        metadata={"completed": str(have), "needed": str(FEWEST_TRIALS)},
    )
