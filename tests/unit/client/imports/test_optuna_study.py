"""What becomes of an Optuna study, made and read by Optuna itself."""

import math
from pathlib import Path

import optuna
import pytest

from keeptune.client import values
from keeptune.client.errors import InvalidInput
from keeptune.client.imports import optuna_study
from keeptune.v1 import search_pb2, types_pb2

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    layers = trial.suggest_int("layers", 2, 8, step=2)
    kind = trial.suggest_categorical("kind", ["sgd", "adam", None])
    momentum = trial.suggest_float("momentum", 0.0, 0.9) if kind == "sgd" else 0.0
    for step in range(3):
        trial.report(rate * layers + step, step)
    if trial.number == 5:
        raise optuna.TrialPruned
    if trial.number == 6:
        raise RuntimeError("broken")
    if trial.number == 7:
        return math.inf
    return rate * layers + momentum


@pytest.fixture
def study() -> optuna.Study:
    found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), study_name="Net #1")
    found.optimize(objective, n_trials=20, catch=[RuntimeError])
    found.ask()
    return found


def test_the_space_is_that_of_the_distributions(study: optuna.Study) -> None:
    converted = optuna_study.convert(study, budget=30)
    space = {spec.name: spec for spec in converted.study.space.parameters}
    assert space["rate"].float_range == types_pb2.FloatRange(
        min=1e-5, max=1e-1, scale=types_pb2.SCALE_LOG
    )
    assert space["layers"].int_range == types_pb2.IntRange(
        min=2, max=8, scale=types_pb2.SCALE_LINEAR, step=2
    )
    options = [values.from_message(value) for value in space["kind"].categories.values]
    assert options == ["sgd", "adam", "None"]
    (metric,) = converted.study.metrics
    assert (metric.name, metric.goal) == ("value", types_pb2.GOAL_MINIMIZE)
    assert converted.study.budget.max_trials == 30
    assert optuna_study.study_id(study.study_name) == "net-1"


def test_a_condition_is_assumed_and_told(study: optuna.Study) -> None:
    converted = optuna_study.convert(study)
    space = {spec.name: spec for spec in converted.study.space.parameters}
    (condition,) = space["momentum"].conditions
    assert condition.parent == "kind"
    assert [values.from_message(value) for value in condition.values.values] == ["sgd"]
    assert any("momentum exists while kind is sgd" in note for note in converted.notes)


def test_what_nothing_explains_is_refused() -> None:
    study = optuna.create_study()
    for number in range(6):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        if number % 2:
            trial.suggest_float("y", 0.0, 1.0)
        study.tell(trial, x)
    with pytest.raises(InvalidInput, match="y is not in 3 of 6 trials"):
        optuna_study.convert(study)


def test_trials_keep_their_states_and_curves(study: optuna.Study) -> None:
    converted = optuna_study.convert(study)
    assert converted.skipped == 1
    assert len(converted.trials) == 20
    by_place = {known.place: known.trial for known in converted.trials}
    first = by_place["trial 0"]
    assert first.state == search_pb2.TRIAL_STATE_COMPLETED
    assert first.final_measurement.metrics["value"] == study.trials[0].value
    assert [each.step for each in first.measurements] == [0, 1, 2]
    pruned = by_place["trial 5"]
    assert pruned.state == search_pb2.TRIAL_STATE_PRUNED
    assert pruned.final_measurement.step == 2
    assert by_place["trial 6"].state == search_pb2.TRIAL_STATE_FAILED
    assert by_place["trial 7"].state == search_pb2.TRIAL_STATE_FAILED
    assert "inf" in by_place["trial 7"].reason


def test_several_objectives_and_constraints() -> None:
    def measured(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("memory", x - 0.5)
        # As older versions keep what a sampler's constraints_func returns.
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [x - 0.25])
        return x, 1.0

    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(measured, n_trials=3)
    converted = optuna_study.convert(study, metrics=["size", "accuracy"])
    goals = [(metric.name, metric.goal) for metric in converted.study.metrics]
    assert goals[:2] == [("size", types_pb2.GOAL_MINIMIZE), ("accuracy", types_pb2.GOAL_MAXIMIZE)]
    constraints = converted.study.metrics[2:]
    assert {metric.name for metric in constraints} == {"constraint_0", "memory"}
    assert all(metric.role == search_pb2.METRIC_ROLE_CONSTRAINT for metric in constraints)
    metrics = converted.trials[0].trial.final_measurement.metrics
    assert metrics["memory"] == pytest.approx(metrics["size"] - 0.5)
    assert metrics["constraint_0"] == pytest.approx(metrics["size"] - 0.25)
    with pytest.raises(InvalidInput, match="2 objectives"):
        optuna_study.convert(study, metrics=["size"])


def test_ranges_that_changed_are_joined() -> None:
    study = optuna.create_study()
    for high in (1.0, 2.0):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", high - 1.0, high, step=0.5))
    converted = optuna_study.convert(study)
    (spec,) = converted.study.space.parameters
    assert (spec.float_range.min, spec.float_range.max, spec.float_range.step) == (0.0, 2.0, 0.0)
    assert converted.notes


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    optuna.create_study(storage=storage, study_name="there")
    with pytest.raises(InvalidInput, match="give one of there"):
        optuna_study.load(storage, "here")
    assert optuna_study.load(storage, "there").study_name == "there"
    with pytest.raises(InvalidInput, match="cannot open"):
        optuna_study.load("nonsense://x", "there")
