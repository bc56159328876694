"""A table's rows to trials of a study, and trials to a table.

One row a trial, one column a parameter or metric, by its name; where a name is both, or that of
another column of ours, `parameters.NAME` and `metrics.NAME`. So that Optuna's
`study.trials_dataframe().to_csv(...)` is understood as it is: `params_NAME`, `value` for the only
objective and `values_NAME`. An empty cell is a parameter that is not active, or a metric that was
not measured. Without a `state` a trial is COMPLETED.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from google.protobuf import json_format

from keeptune.client import values
from keeptune.client.imports.adding import Known
from keeptune.client.results import TrialResult
from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.v1 import search_pb2, types_pb2

_STATES = {
    "COMPLETED": search_pb2.TRIAL_STATE_COMPLETED,
    "COMPLETE": search_pb2.TRIAL_STATE_COMPLETED,
    "PRUNED": search_pb2.TRIAL_STATE_PRUNED,
    "INFEASIBLE": search_pb2.TRIAL_STATE_INFEASIBLE,
    "FAILED": search_pb2.TRIAL_STATE_FAILED,
    "FAIL": search_pb2.TRIAL_STATE_FAILED,
}
# Trials that have not ended are no results.
_UNDER_WAY = ("WAITING", "RUNNING")
# Columns that say nothing a trial can hold: what we and pandas and Optuna write beside the rest.
_PASSED_OVER = ("", "number", "name", "source", "because", "attempts", "end_time")
_PASSED_OVER_TOO = ("datetime_", "duration", "user_attrs_", "system_attrs_", "Unnamed: ")
_OURS = ("number", "state", "source", "reason")
# More are not told at once.
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Table:
    """What a file holds for a study; `skipped` rows had not ended."""

    trials: tuple[Known, ...]
    skipped: int


def read(file: Path, study: search_pb2.Study, ignore: Collection[str] = ()) -> Table:
    """The trials in a CSV file. Columns of `ignore` are passed over.

    Raises InvalidInput naming lines and columns, of many problems the first twenty.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            rows = csv.reader(text)
            header = next(rows, [])
            columns = _columns(header, study, file, ignore)
            return _trials(rows, columns, study, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(field=str(file), problem=f"cannot be read: {error}") from None


def write(study: search_pb2.Study, trials: Iterable[TrialResult], target: TextIO) -> None:
    """The trials as `read` takes them, in the order given."""
    parameters = [parameter.name for parameter in study.space.parameters]
    metrics = [metric.name for metric in study.metrics]
    twice = {*_OURS, *_PASSED_OVER, *set(parameters) & set(metrics)}
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(
        [
            *_OURS,
            *(f"parameters.{name}" if name in twice else name for name in parameters),
            *(f"metrics.{name}" if name in twice else name for name in metrics),
        ]
    )
    for trial in trials:
        own = (trial.number, trial.state, trial.source, trial.reason)
        values_ = (_cell(trial.parameters[n]) if n in trial.parameters else "" for n in parameters)
        measured = (repr(trial.metrics[n]) if n in trial.metrics else "" for n in metrics)
        writer.writerow([*own, *values_, *measured])


def _cell(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return json.dumps(value)
        case _:
            return str(value)


@dataclass(frozen=True)
class _Columns:
    """Where in a row they stand."""

    parameters: Mapping[int, types_pb2.ParameterSpec]
    metrics: Mapping[int, str]
    state: int | None
    reason: int | None
    header: Sequence[str]


def _columns(
    header: Sequence[str], study: search_pb2.Study, file: Path, ignore: Collection[str]
) -> _Columns:
    problems = []
    parameters: dict[int, types_pb2.ParameterSpec] = {}
    metrics: dict[int, str] = {}
    own: dict[str, int] = {}
    meant = _meanings(study)
    seen: dict[tuple[str, str], str] = {}
    for i, name in enumerate(header):
        field = f"{file.name}, column {name!r}"
        found = meant.get(name.strip(), [])
        if name in ignore or (not found and _is_passed_over(name)):
            continue
        if len(found) != 1:
            problems.append(Violation(field, *_misfit(found, name)))
            continue
        kind, of = found[0]
        if found[0] in seen:
            problems.append(
                Violation(field, f"is {kind} {of!r}, as column {seen[found[0]]!r} is", "drop one")
            )
        seen[found[0]] = name
        if kind == "parameter":
            parameters[i] = next(p for p in study.space.parameters if p.name == of)
        elif kind == "metric":
            metrics[i] = of
        else:
            own[of] = i
    if not header:
        problems.append(Violation(str(file), "is empty", "begin with a line of column names"))
    elif not metrics and not problems:
        names = ", ".join(metric.name for metric in study.metrics)
        problems.append(Violation(str(file), "has no column of a metric", f"add one of {names}"))
    if problems:
        raise InvalidInput.many(problems[:_MOST_PROBLEMS], reason="INVALID_TABLE")
    return _Columns(parameters, metrics, own.get("state"), own.get("reason"), header)


def _meanings(study: search_pb2.Study) -> dict[str, list[tuple[str, str]]]:
    """What each possible column name can stand for; more than one = it must be told."""
    meant: dict[str, list[tuple[str, str]]] = {
        own: [("column", own)] for own in ("state", "reason")
    }
    objectives = [
        metric.name
        for metric in study.metrics
        if metric.role in (search_pb2.METRIC_ROLE_OBJECTIVE, search_pb2.METRIC_ROLE_UNSPECIFIED)
    ]
    for parameter in study.space.parameters:
        for name in (parameter.name, f"parameters.{parameter.name}", f"params_{parameter.name}"):
            meant.setdefault(name, []).append(("parameter", parameter.name))
    for metric in study.metrics:
        for name in (metric.name, f"metrics.{metric.name}", f"values_{metric.name}"):
            meant.setdefault(name, []).append(("metric", metric.name))
    if len(objectives) == 1:
        meant.setdefault("value", [("metric", objectives[0])])
    for i, objective in enumerate(objectives):
        meant.setdefault(f"values_{i}", [("metric", objective)])
    return meant


def _is_passed_over(name: str) -> bool:
    return name.strip() in _PASSED_OVER or name.startswith(_PASSED_OVER_TOO)


def _misfit(found: Sequence[tuple[str, str]], name: str) -> tuple[str, str]:
    if found:
        return (
            f"can be {' or '.join(kind for kind, _ in found)} {name!r}",
            f"call it parameters.{name} or metrics.{name}",
        )
    return (
        "is no parameter and no metric of the study",
        f"rename it, or pass over it with --ignore {name!r}",
    )


def _trials(
    rows: Iterator[list[str]], columns: _Columns, study: search_pb2.Study, file: Path
) -> Table:
    trials, skipped = [], 0
    problems: list[Violation] = []
    # Cells may span lines; the reader counts those.
    reader = rows
    for row in reader:
        line = getattr(reader, "line_num", 0)
        if not any(row):
            continue
        place = f"{file.name} line {line}"
        if len(row) != len(columns.header):
            wanted = f"has {len(row)} cells, the header {len(columns.header)}"
            problems.append(Violation(place, wanted, "quote cells that hold a comma"))
        else:
            known = _trial(row, columns, study, place, problems)
            skipped += known is None
            trials += [Known(known, place)] if known is not None else []
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        raise InvalidInput.many(problems, reason="INVALID_TABLE")
    return Table(tuple(trials), skipped)


def _trial(
    row: Sequence[str],
    columns: _Columns,
    study: search_pb2.Study,
    place: str,
    problems: list[Violation],
) -> search_pb2.Trial | None:
    """None when it has not ended, or when something is wrong with it."""
    state = row[columns.state].strip().upper() if columns.state is not None else ""
    state = state.removeprefix("TRIALSTATE.").removeprefix("TRIAL_STATE_") or "COMPLETED"
    if state in _UNDER_WAY:
        return None
    before = len(problems)
    if state not in _STATES:
        problems.append(
            Violation(
                f"{place}, column {columns.header[columns.state or 0]!r}",
                f"is {state!r}",
                f"give one of {', '.join(_STATES)}",
            )
        )
    trial = search_pb2.Trial(
        state=_STATES.get(state, search_pb2.TRIAL_STATE_UNSPECIFIED),
        reason=row[columns.reason] if columns.reason is not None else "",
    )
    for i, spec in columns.parameters.items():
        if row[i].strip():
            try:
                trial.parameters[spec.name].CopyFrom(_value(row[i].strip(), spec))
            except ValueError as error:
                problems.append(_wrong(place, columns.header[i], row[i], str(error)))
    given = {spec.name for spec in columns.parameters.values()}
    for spec in study.space.parameters:
        # A column for what is always the same says nothing.
        if spec.name not in given and spec.HasField("fixed") and not spec.conditions:
            trial.parameters[spec.name].CopyFrom(spec.fixed)
    for i, name in columns.metrics.items():
        if not row[i].strip():
            continue
        try:
            value = float(row[i])
        except ValueError:
            problems.append(_wrong(place, columns.header[i], row[i], "give a number"))
            continue
        if math.isfinite(value):
            trial.final_measurement.metrics[name] = value
        elif state.startswith("COMPLETE"):
            fix = "give a finite number, or the state FAILED"
            problems.append(_wrong(place, columns.header[i], row[i], fix))
    if len(problems) > before:
        return None
    return trial


def _wrong(place: str, column: str, cell: str, fix: str) -> Violation:
    return Violation(f"{place}, column {column!r}", f"is {cell!r}", fix)


def _value(cell: str, spec: types_pb2.ParameterSpec) -> types_pb2.ParameterValue:
    """Raises ValueError that says what is wanted."""
    match spec.WhichOneof("domain"):
        case "float_range":
            return values.to_message(_number(cell))
        case "int_range":
            number = _number(cell)
            if not number.is_integer():
                raise ValueError("give a whole number")
            # Not by way of a float, which rounds large ones.
            return values.to_message(int(cell) if cell.lstrip("+-").isdigit() else int(number))
        case "categories":
            return _option(cell, spec.categories.values)
        case "fixed":
            return _option(cell, [spec.fixed])
        case _:
            try:
                return json_format.ParseDict(
                    {"graph_value": json.loads(cell)}, types_pb2.ParameterValue()
                )
            except (json.JSONDecodeError, json_format.ParseError) as error:
                raise ValueError(f"give a graph as JSON: {error}") from None


def _option(cell: str, options: Iterable[types_pb2.ParameterValue]) -> types_pb2.ParameterValue:
    known = [*options]
    texts = [_cell(values.from_message(option)) for option in known]
    exact = [option for option, text in zip(known, texts, strict=True) if text == cell]
    alike = [option for option in known if _is_alike(cell, values.from_message(option))]
    found = exact or alike
    if not found:
        raise ValueError(f"give one of {', '.join(texts)}")
    if len(found) > 1:
        raise ValueError("is the text of several values; import it through the client")
    return found[0]


def _is_alike(cell: str, option: object) -> bool:
    """Python's True for true, and 64.0 for 64."""
    if isinstance(option, bool):
        return cell.lower() == str(option).lower()
    if isinstance(option, int | float):
        try:
            return float(cell) == option
        except ValueError:
            return False
    return False


def _number(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError("give a number") from None
    if not math.isfinite(number):
        raise ValueError("give a finite number")
    return number
