"""An Optuna study to one of ours: its space, its directions, and the trials that have ended.

Optuna keeps with each trial the distributions it was drawn from, not why a parameter was or was not
drawn. Where a parameter is there in some trials only, a category, number or flag that tells those
trials from the others is taken for its condition, and that assumption is told. Ranges that differ
between trials are joined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from keeptune.client import values
from keeptune.client.imports.adding import Known
from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.v1 import search_pb2, types_pb2

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

OptunaStudy: TypeAlias = "Study"

_STATES = {
    "COMPLETE": search_pb2.TRIAL_STATE_COMPLETED,
    "PRUNED": search_pb2.TRIAL_STATE_PRUNED,
    "FAIL": search_pb2.TRIAL_STATE_FAILED,
}
# Where Optuna keeps what `constraints_func` returned, and `set_constraint` set; not above 0 holds.
_CONSTRAINTS = "constraints"
_NAMED_CONSTRAINT = "constraints:"


@dataclass(frozen=True)
class Converted:
    """`skipped` trials had not ended; `notes` say what was assumed, for people."""

    study: search_pb2.Study
    trials: tuple[Known, ...]
    skipped: int
    notes: tuple[str, ...]


def load(storage: str, study_name: str) -> OptunaStudy:
    """Reads a study from Optuna's storage URL or journal file; changes nothing in it.

    Raises FailedPrecondition without Optuna, InvalidInput when there is no such study.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "reading Optuna's storage needs Optuna, which is not installed here",
            fix="pip install 'keeptune[optuna]'",
            reason="EXTRA_NOT_INSTALLED",
        ) from None
    try:
        names = optuna.get_all_study_names(storage)
        if study_name in names:
            return optuna.load_study(study_name=study_name, storage=storage)
    except Exception as error:
        raise InvalidInput(
            field="storage",
            problem=f"is {storage!r}, which Optuna cannot open: {error}",
            fix="give the URL as for optuna.load_study, e.g. sqlite:///studies.db",
        ) from error
    raise InvalidInput(
        field="study_name",
        problem=f"is {study_name!r}, which {storage} does not have",
        fix=f"give one of {', '.join(sorted(names))}" if names else "the storage holds no study",
    )


def study_id(name: str) -> str:
    """An id of ours for a study of that name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "optuna"


def convert(study: OptunaStudy, *, metrics: Sequence[str] = (), budget: int = 100) -> Converted:
    """A study with the space and the objectives of Optuna's, and its trials.

    `metrics` names the objectives; default what the study itself calls them, else value, or
    value_0, value_1, ... `budget` is for further trials. Raises InvalidInput for what cannot be
    expressed.
    """
    ended, skipped = _ended(study)
    objectives = _objectives(study, metrics)
    constraints = list(dict.fromkeys(name for trial in ended for name in _constraints(trial)))
    notes: list[str] = []
    converted = search_pb2.Study(
        display_name=study.study_name[:255],
        space=_space(ended, notes),
        metrics=[
            *(
                search_pb2.Metric(
                    name=name,
                    goal=types_pb2.GOAL_MAXIMIZE
                    if direction.name == "MAXIMIZE"
                    else types_pb2.GOAL_MINIMIZE,
                )
                for name, direction in zip(objectives, study.directions, strict=True)
            ),
            *(
                search_pb2.Metric(
                    name=name,
                    goal=types_pb2.GOAL_MINIMIZE,
                    role=search_pb2.METRIC_ROLE_CONSTRAINT,
                    limit=0.0,
                )
                for name in constraints
            ),
        ],
        budget=search_pb2.Budget(max_trials=budget),
    )
    return Converted(converted, _known(ended, objectives), skipped, tuple(notes))


def trials_of(study: OptunaStudy, metrics: Sequence[str] = ()) -> tuple[tuple[Known, ...], int]:
    """The trials alone, for a study whose space is known; and how many had not ended."""
    ended, skipped = _ended(study)
    return _known(ended, _objectives(study, metrics)), skipped


def _ended(study: OptunaStudy) -> tuple[list[FrozenTrial], int]:
    everything = study.get_trials(deepcopy=False)
    ended = [trial for trial in everything if trial.state.name in _STATES]
    if not ended:
        raise InvalidInput(
            field=f"study {study.study_name}",
            problem="has no trial that has ended",
            fix="there is nothing to import: create a study with keeptune study create",
        )
    return ended, len(everything) - len(ended)


def _known(trials: Iterable[FrozenTrial], objectives: Sequence[str]) -> tuple[Known, ...]:
    return tuple(Known(_trial(trial, objectives), f"trial {trial.number}") for trial in trials)


def _objectives(study: OptunaStudy, metrics: Sequence[str]) -> list[str]:
    count = len(study.directions)
    if metrics and len(metrics) != count:
        raise InvalidInput(
            field="metrics",
            problem=f"are {', '.join(metrics)}, but the study has {count} objectives",
            fix="name each, in Optuna's order",
        )
    named = [*(metrics or study.metric_names or ())]
    return named or (["value"] if count == 1 else [f"value_{i}" for i in range(count)])


# --- trials ---


def _trial(trial: FrozenTrial, objectives: Sequence[str]) -> search_pb2.Trial:
    state = _STATES[trial.state.name]
    found = search_pb2.Trial(state=state, parameters=_parameters(trial))
    for step, value in sorted(trial.intermediate_values.items()):
        if step >= 0 and math.isfinite(value):
            found.measurements.append(
                types_pb2.Measurement(step=step, metrics={objectives[0]: value})
            )
    final = dict(zip(objectives, trial.values or (), strict=False))
    final |= _constraints(trial)
    if state == search_pb2.TRIAL_STATE_COMPLETED and not all(map(math.isfinite, final.values())):
        found.state = search_pb2.TRIAL_STATE_FAILED
        found.reason = f"Optuna has {final} for it"
    elif state == search_pb2.TRIAL_STATE_COMPLETED:
        found.final_measurement.metrics.update(final)
    elif state == search_pb2.TRIAL_STATE_PRUNED and found.measurements:
        found.final_measurement.CopyFrom(found.measurements[-1])
    return found


def _parameters(trial: FrozenTrial) -> dict[str, types_pb2.ParameterValue]:
    return {
        name: values.to_message(_value(value), field=f"trial {trial.number}, {name}")
        for name, value in trial.params.items()
    }


def _value(value: Any) -> Any:
    """Optuna's categories may be None; ours may not."""
    return "None" if value is None else value


def _constraints(trial: FrozenTrial) -> dict[str, float]:
    attributes = trial.system_attrs
    found = {f"constraint_{i}": v for i, v in enumerate(attributes.get(_CONSTRAINTS) or ())}
    return found | {
        name.removeprefix(_NAMED_CONSTRAINT): value
        for name, value in attributes.items()
        if name.startswith(_NAMED_CONSTRAINT)
    }


# --- the space ---


def _space(trials: Sequence[FrozenTrial], notes: list[str]) -> types_pb2.SearchSpace:
    found: dict[str, list[BaseDistribution]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            known = found.setdefault(name, [])
            if distribution not in known:
                known.append(distribution)
    specs = {name: _domain(name, kinds, notes) for name, kinds in found.items()}
    always = [name for name in specs if all(name in trial.params for trial in trials)]
    # Parents come before children: a parameter is one once its own condition is known.
    waiting = [name for name in specs if name not in always]
    while waiting:
        for name in waiting:
            condition = _condition(name, always, trials, specs)
            if condition is not None:
                specs[name].conditions.append(condition)
                shown = ", ".join(
                    str(values.from_message(value)) for value in condition.values.values
                )
                notes.append(
                    f"assumed that {name} exists while {condition.parent} is {shown}: so it is in "
                    "all trials, and Optuna does not say why"
                )
                always.append(name)
                waiting.remove(name)
                break
        else:
            missing = sum(waiting[0] not in trial.params for trial in trials)
            raise InvalidInput(
                field=f"parameter {waiting[0]}",
                problem=(
                    f"is not in {missing} of {len(trials)} trials, and nothing tells those apart; "
                    "Optuna does not record why"
                ),
                fix="write the space with its conditions into a file, and give it with -f",
            )
    return types_pb2.SearchSpace(parameters=list(specs.values()))


def _condition(
    name: str,
    parents: Iterable[str],
    trials: Sequence[FrozenTrial],
    specs: Mapping[str, types_pb2.ParameterSpec],
) -> types_pb2.Condition | None:
    """The parent whose values tell the trials with the parameter from those without it."""
    for parent in parents:
        if specs[parent].WhichOneof("domain") != "categories":
            continue
        options = [values.from_message(value) for value in specs[parent].categories.values]
        with_it = {
            options.index(_value(t.params[parent]))
            for t in trials
            if name in t.params and parent in t.params
        }
        without = {
            options.index(_value(t.params[parent]))
            for t in trials
            if name not in t.params and parent in t.params
        }
        reached = all(parent in t.params for t in trials if name in t.params)
        if reached and with_it and not with_it & without:
            allowed = [specs[parent].categories.values[i] for i in sorted(with_it)]
            return types_pb2.Condition(parent=parent, values=types_pb2.Categories(values=allowed))
    return None


def _domain(
    name: str, kinds: Sequence[BaseDistribution], notes: list[str]
) -> types_pb2.ParameterSpec:
    spec = types_pb2.ParameterSpec(name=name)
    types = {type(kind).__name__ for kind in kinds}
    if len(types) > 1:
        raise InvalidInput(
            field=f"parameter {name}",
            problem=f"is drawn from several kinds of distributions: {', '.join(sorted(types))}",
            fix="write the space into a file, and give it with -f",
        )
    if len(kinds) > 1:
        notes.append(f"the {len(kinds)} ranges of {name} in its trials were joined")
    ranges: list[Any] = [*kinds]
    match types.pop():
        case "CategoricalDistribution":
            for i, choice in enumerate(ranges[0].choices):
                value = values.to_message(_value(choice), field=f"parameter {name}, choice {i}")
                spec.categories.values.append(value)
            if None in ranges[0].choices:
                notes.append(f'the choice None of {name} became the text "None"')
        case "FloatDistribution":
            spec.float_range.CopyFrom(
                types_pb2.FloatRange(
                    min=min(kind.low for kind in ranges),
                    max=max(kind.high for kind in ranges),
                    scale=_scale(ranges),
                    step=_one_step(ranges) or 0.0,
                )
            )
        case "IntDistribution":
            spec.int_range.CopyFrom(
                types_pb2.IntRange(
                    min=min(kind.low for kind in ranges),
                    max=max(kind.high for kind in ranges),
                    scale=_scale(ranges),
                    step=int(_one_step(ranges) or 1),
                )
            )
        case other:
            raise InvalidInput(
                field=f"parameter {name}",
                problem=f"has a {other}",
                fix="write the space into a file, and give it with -f",
            )
    return spec


def _scale(ranges: Iterable[Any]) -> types_pb2.Scale.ValueType:
    return types_pb2.SCALE_LOG if all(kind.log for kind in ranges) else types_pb2.SCALE_LINEAR


def _one_step(ranges: Sequence[Any]) -> float | None:
    """The step of all of them; None where joined ranges have not one grid."""
    steps = {kind.step for kind in ranges}
    lows = {kind.low for kind in ranges}
    if len(steps) > 1 or len(lows) > 1:
        return None
    step: float | None = steps.pop()
    return step
