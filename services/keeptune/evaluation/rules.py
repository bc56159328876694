"""Whether a gate makes sense for the data and the task, before anything is judged. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from keeptune.evaluation.catalog import Metric, metrics_of
from keeptune.evaluation.gate import is_relative
from keeptune.evaluation.model import Gate, GateRule
from keeptune.runtime.errors import Violation


def problems(
    gate: Gate, datasets: Mapping[str, Collection[str]], task: int, field: str
) -> Iterator[Violation]:
    """Everything wrong with the rules; `datasets` are the slice columns by dataset name.

    `field` is the gate's path in the request.
    """
    known = metrics_of(task)
    for index, rule in enumerate(gate.rules):
        where = f"{field}.rules[{index}]"
        metric = known.get(rule.metric)
        if metric is None:
            yield Violation(
                f"{where}.metric",
                f"is {rule.metric!r}, which is not measured for this task",
                _choice(rule.metric, known),
            )
        else:
            yield from _metric_problems(rule, metric, known, where)
        yield from _place_problems(rule, datasets, where)
        yield from _limit_problems(rule, where)


def _metric_problems(
    rule: GateRule, metric: Metric, known: Mapping[str, Metric], where: str
) -> Iterator[Violation]:
    if not metric.per_row:
        for name, value in (("dataset", rule.dataset), ("slice", rule.slice)):
            if value:
                yield Violation(
                    f"{where}.{name}",
                    f"is {value!r}, but {metric.name} is measured once for the model",
                    "leave it empty",
                )
    if rule.require_improvement and not metric.paired:
        tested = ", ".join(name for name, m in known.items() if m.paired)
        yield Violation(
            f"{where}.require_improvement",
            f"is set, but {metric.name} has no paired test",
            f"require it of {tested}, or set a negative max_regression",
        )


def _place_problems(
    rule: GateRule, datasets: Mapping[str, Collection[str]], where: str
) -> Iterator[Violation]:
    if rule.dataset and rule.dataset not in datasets:
        yield Violation(
            f"{where}.dataset",
            f"is {rule.dataset!r}, which is none of the datasets",
            _choice(rule.dataset, datasets),
        )
        return
    if not rule.slice:
        return
    column, equals, _ = rule.slice.partition("=")
    asked = [rule.dataset] if rule.dataset else list(datasets)
    columns = sorted({name for dataset in asked for name in datasets[dataset]})
    if not equals:
        yield Violation(f"{where}.slice", f"is {rule.slice!r}", "write column=value")
    elif column not in columns:
        fix = "name the column in the dataset's slice_columns"
        yield Violation(
            f"{where}.slice",
            f"is {rule.slice!r}, but no dataset is sliced by {column!r}",
            f"{_choice(column, columns)} Or {fix}" if columns else fix,
        )


def _limit_problems(rule: GateRule, where: str) -> Iterator[Violation]:
    limits = {
        "min": rule.min,
        "max": rule.max,
        "max_regression": rule.max_regression,
        "max_relative_regression": rule.max_relative_regression,
    }
    for name, limit in limits.items():
        if limit is not None and not math.isfinite(limit):
            yield Violation(f"{where}.{name}", f"is {limit}", "give a finite number")
    if rule.min is None and rule.max is None and not is_relative(rule):
        yield Violation(
            where, "has no limit", "set min, max, max_regression or require_improvement"
        )
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        yield Violation(f"{where}.min", f"is above max ({rule.min:g} > {rule.max:g})", "swap them")


def _choice(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, list(known), n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"use one of {', '.join(known)}."
