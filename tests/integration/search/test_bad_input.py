"""What is wrong in a request gets a canonical code, names the field and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.calls import calling
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import InvalidInput, KeeptuneError, NotFound, ResourceExhausted
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import RUNNING, Service, running, space, strings, study

NAN, INF = float("nan"), float("inf")
Spec = types_pb2.ParameterSpec
Float, Int = types_pb2.FloatRange, types_pb2.IntRange
LOG = types_pb2.SCALE_LOG


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, ManualClock()) as found:
        yield found


def only(*parameters: types_pb2.ParameterSpec) -> types_pb2.SearchSpace:
    return types_pb2.SearchSpace(parameters=parameters)


def under(parent: str, **when: Any) -> types_pb2.ParameterSpec:
    condition = types_pb2.Condition(parent=parent, **when)
    return Spec(name="child", int_range=Int(min=1, max=2), conditions=[condition])


BOOL = types_pb2.ParameterValue(bool_value=True)
X = Spec(name="x", float_range=Float(min=0, max=1))
KIND = Spec(name="kind", categories=strings("a", "b"))

SPACES = {
    "no parameters": (only(), "parameters"),
    "min above max": (
        only(Spec(name="x", float_range=Float(min=3, max=1))),
        "parameters[0].float_range.min",
    ),
    "int min above max": (
        only(X, Spec(name="n", int_range=Int(min=3, max=1))),
        "parameters[1].int_range.min",
    ),
    "log of zero": (
        only(Spec(name="x", float_range=Float(min=0, max=1, scale=LOG))),
        "parameters[0].float_range.min",
    ),
    "log of zero, int": (
        only(Spec(name="n", int_range=Int(min=0, max=1, scale=LOG))),
        "parameters[0].int_range.min",
    ),
    "negative step": (
        only(Spec(name="x", float_range=Float(min=0, max=1, step=-1))),
        "parameters[0].float_range.step",
    ),
    "step beyond the range": (
        only(Spec(name="n", int_range=Int(min=0, max=3, step=4))),
        "parameters[0].int_range.step",
    ),
    "no number": (
        only(Spec(name="x", float_range=Float(min=NAN, max=1))),
        "parameters[0].float_range.min",
    ),
    "infinite": (
        only(Spec(name="x", float_range=Float(min=0, max=INF))),
        "parameters[0].float_range.max",
    ),
    "too wide": (
        only(Spec(name="x", float_range=Float(min=-1.7e308, max=1.7e308))),
        "parameters[0].float_range.max",
    ),
    "two of a name": (only(X, X), "parameters[1].name"),
    "no categories": (
        only(Spec(name="c", categories=types_pb2.Categories())),
        "parameters[0].categories.values",
    ),
    "a category twice": (
        only(Spec(name="c", categories=strings("a", "b", "a"))),
        "parameters[0].categories.values[2]",
    ),
    "an unset category": (
        only(Spec(name="c", categories=types_pb2.Categories(values=[types_pb2.ParameterValue()]))),
        "parameters[0].categories.values[0]",
    ),
    "no domain": (only(Spec(name="x")), "parameters[0].domain"),
    "no name": (only(Spec(float_range=Float(min=0, max=1))), "parameters[0].name"),
    "unknown parent": (
        only(X, under("y", values=strings("a"))),
        "parameters[1].conditions[0].parent",
    ),
    "own parent": (
        only(
            under(
                "child", values=types_pb2.Categories(values=[types_pb2.ParameterValue(int_value=1)])
            )
        ),
        "parameters[0].conditions",
    ),
    "impossible value": (
        only(KIND, under("kind", values=strings("c"))),
        "parameters[1].conditions[0].values.values[0]",
    ),
    "value of another type": (
        only(KIND, under("kind", values=types_pb2.Categories(values=[BOOL]))),
        "parameters[1].conditions[0].values.values[0]",
    ),
    "range of strings": (
        only(KIND, under("kind", range=types_pb2.NumberRange(min=0, max=1))),
        "parameters[1].conditions[0].range",
    ),
    "range apart": (
        only(X, under("x", range=types_pb2.NumberRange(min=2, max=3))),
        "parameters[1].conditions[0].range",
    ),
    "range upside down": (
        only(X, under("x", range=types_pb2.NumberRange(min=1, max=0))),
        "parameters[1].conditions[0].range.min",
    ),
}


@pytest.mark.parametrize("case", SPACES)
async def test_wrong_spaces(service: Service, case: str) -> None:
    wrong, field = SPACES[case]
    await refused(service, study(space=wrong), f"study.space.{field}")


async def test_a_cycle_of_conditions(service: Service) -> None:
    one = Spec(
        name="one",
        int_range=Int(min=1, max=2),
        conditions=[types_pb2.Condition(parent="two", range=types_pb2.NumberRange(min=1, max=2))],
    )
    two = Spec(
        name="two",
        int_range=Int(min=1, max=2),
        conditions=[types_pb2.Condition(parent="one", range=types_pb2.NumberRange(min=1, max=2))],
    )
    error = await refused(
        service, study(space=only(X, one, two)), "study.space.parameters[1].conditions"
    )
    assert [v.field for v in error.violations] == [
        f"study.space.parameters[{i}].conditions" for i in (1, 2)
    ]


LOSS = search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)
CONSTRAINT = search_pb2.METRIC_ROLE_CONSTRAINT

STUDIES: dict[str, tuple[dict[str, Any], str]] = {
    "no metrics": ({"metrics": []}, "study.metrics"),
    "no goal": ({"metrics": [search_pb2.Metric(name="loss")]}, "study.metrics[0].goal"),
    "a metric twice": ({"metrics": [LOSS, LOSS]}, "study.metrics[1].name"),
    "no objective": (
        {
            "metrics": [
                search_pb2.Metric(name="m", goal=1, role=CONSTRAINT, limit=1),
            ]
        },
        "study.metrics",
    ),
    "no limit": (
        {"metrics": [LOSS, search_pb2.Metric(name="m", goal=1, role=CONSTRAINT)]},
        "study.metrics[1].limit",
    ),
    "infinite limit": (
        {"metrics": [LOSS, search_pb2.Metric(name="m", goal=1, role=CONSTRAINT, limit=INF)]},
        "study.metrics[1].limit",
    ),
    "limit of an objective": (
        {"metrics": [search_pb2.Metric(name="loss", goal=1, limit=1)]},
        "study.metrics[0].limit",
    ),
    "no budget": ({"budget": search_pb2.Budget()}, "study.budget"),
    "negative duration": (
        {"budget": search_pb2.Budget(max_duration=Duration(seconds=-1))},
        "study.budget.max_duration",
    ),
    "negative trials": (
        {"budget": search_pb2.Budget(max_trials=-1)},
        "study.budget.max_trials",
    ),
    "lease too short": ({"lease_duration": Duration(nanos=1000)}, "study.lease_duration"),
    "lease too long": ({"lease_duration": Duration(seconds=10**7)}, "study.lease_duration"),
    "too many retries": ({"max_retries": 101}, "study.max_retries"),
    "pruning of two objectives": (
        {
            "metrics": [LOSS, search_pb2.Metric(name="m", goal=1)],
            "pruning": search_pb2.Pruning(median=search_pb2.MedianPruning()),
        },
        "study.pruning",
    ),
    "pruning of a population": (
        {
            "algorithm": "pbt",
            "pruning": search_pb2.Pruning(asha=search_pb2.AshaPruning()),
        },
        "study.pruning",
    ),
    "a forecast judged at the end": (
        {"pruning": search_pb2.Pruning(forecast={"max_steps": 5, "min_steps": 5})},
        "study.pruning.forecast.min_steps",
    ),
    "reduction by one": (
        {"pruning": search_pb2.Pruning(asha=search_pb2.AshaPruning(reduction_factor=1))},
        "study.pruning.asha.reduction_factor",
    ),
    "a race that never begins": (
        {"pruning": search_pb2.Pruning(hyperband=search_pb2.HyperbandPruning(max_steps=2))},
        "study.pruning.hyperband.max_steps",
    ),
    "hyperband's reduction by one": (
        {
            "pruning": search_pb2.Pruning(
                hyperband=search_pb2.HyperbandPruning(max_steps=9, reduction_factor=1)
            )
        },
        "study.pruning.hyperband.reduction_factor",
    ),
    "unknown algorithm": ({"algorithm": "rondom"}, "study.algorithm.name"),
    "unknown of Nevergrad": ({"algorithm": "nevergrad/OnePlusOn"}, "study.algorithm.name"),
    "not installed": ({"algorithm": "nevergrad/PymooNSGA2"}, "study.algorithm.name"),
    "continuous grid": (
        {
            "algorithm": "grid",
            "budget": search_pb2.Budget(max_duration=Duration(seconds=9)),
        },
        "study.algorithm.name",
    ),
    "no name of a study": ({"warm_start": ["earlier"]}, "study.warm_start[0]"),
    "unknown earlier study": ({"warm_start": ["studies/none"]}, "study.warm_start[0]"),
    "wrong label": ({"labels": {"Team": "a"}}, "labels"),
}


@pytest.mark.parametrize("case", STUDIES)
async def test_wrong_studies(service: Service, case: str) -> None:
    wrong, field = STUDIES[case]
    await refused(service, study(**wrong), field)


async def test_errors_suggest_what_was_meant(service: Service) -> None:
    error = await refused(service, study(algorithm="rondom"), "study.algorithm.name")
    assert "did you mean random " in error.violations[0].fix
    error = await refused(service, study(algorithm="nevergrad/OnePlusOn"), "study.algorithm.name")
    assert "nevergrad/OnePlusOne" in error.violations[0].fix
    error = await refused(service, study(algorithm="nevergrad/PymooNSGA2"), "study.algorithm.name")
    assert "'pymoo', which is not installed" in error.violations[0].problem


async def test_everything_wrong_is_said_at_once(service: Service) -> None:
    wrong = study(
        space=only(Spec(name="x", float_range=Float(min=3, max=1)), X),
        lease_duration=Duration(seconds=-1),
    )
    error = await refused(service, wrong, "study.space.parameters[0].float_range.min")
    assert {v.field for v in error.violations} == {
        "study.space.parameters[0].float_range.min",
        "study.space.parameters[1].name",
        "study.lease_duration",
    }
    assert all(v.fix for v in error.violations)


async def test_wrong_names(service: Service) -> None:
    with pytest.raises(InvalidInput):
        await service.study("No Study")
    with pytest.raises(InvalidInput) as caught:
        await service.create(study(), "Not an id")
    assert caught.value.field == "study_id"
    with pytest.raises(NotFound):
        await service.study("none")
    with pytest.raises(InvalidInput) as caught:
        await calling(service.stub.GetTrial(search_pb2.GetTrialRequest(name="studies/s/trials/x")))
    assert caught.value.field == "name"
    with pytest.raises(InvalidInput) as caught:
        await service.suggest("no worker!")
    assert caught.value.field == "worker"


async def test_measurements_that_are_no_numbers(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    for wrong in (NAN, INF, -INF):
        with pytest.raises(InvalidInput) as caught:
            await service.report(leased, 1.0, wrong)
        assert caught.value.field == 'measurements[1].metrics["loss"]'
        with pytest.raises(InvalidInput) as caught:
            await service.complete(leased, wrong)
        assert caught.value.field == 'measurement.metrics["loss"]'
        assert "infeasible" in caught.value.violations[0].fix
    trial = await service.trial(1)
    assert trial.state == RUNNING
    assert not trial.measurements


async def test_an_objective_that_was_not_measured(service: Service) -> None:
    await service.create(study())
    (leased,) = (await service.suggest()).trials
    with pytest.raises(InvalidInput, match="lacks the objective 'loss'") as caught:
        await service.complete(leased, measurement=types_pb2.Measurement(metrics={"lost": 1}))
    assert caught.value.field == "measurement.metrics"
    with pytest.raises(InvalidInput):
        await service.complete(leased)
    assert (await service.trial(1)).state == RUNNING


def known(**more: Any) -> search_pb2.Trial:
    parameters = {
        "x": types_pb2.ParameterValue(double_value=1),
        "rate": types_pb2.ParameterValue(double_value=0.1),
        "depth": types_pb2.ParameterValue(int_value=3),
        "kind": types_pb2.ParameterValue(string_value="a"),
    } | more.pop("parameters", {})
    return search_pb2.Trial(
        parameters={name: value for name, value in parameters.items() if value is not None},
        **(
            {
                "state": search_pb2.TRIAL_STATE_COMPLETED,
                "final_measurement": types_pb2.Measurement(metrics={"loss": 1}),
            }
            | more
        ),
    )


IMPORTS: dict[str, tuple[search_pb2.Trial, str]] = {
    "missing": (known(parameters={"x": None}), 'parameters["x"]'),
    "unknown": (
        known(parameters={"y": types_pb2.ParameterValue(int_value=1)}),
        'parameters["y"]',
    ),
    "inactive": (
        known(parameters={"width": types_pb2.ParameterValue(int_value=8)}),
        'parameters["width"]',
    ),
    "out of range": (
        known(parameters={"x": types_pb2.ParameterValue(double_value=11)}),
        'parameters["x"]',
    ),
    "no number": (
        known(parameters={"x": types_pb2.ParameterValue(double_value=NAN)}),
        'parameters["x"]',
    ),
    "wrong type": (
        known(parameters={"depth": types_pb2.ParameterValue(string_value="3")}),
        'parameters["depth"]',
    ),
    "unset": (known(parameters={"depth": types_pb2.ParameterValue()}), 'parameters["depth"]'),
    "not ended": (known(state=search_pb2.TRIAL_STATE_RUNNING), "state"),
    "no state": (known(state=0), "state"),
    "no measurement": (known(final_measurement=None), "final_measurement"),
    "measured nan": (
        known(final_measurement=types_pb2.Measurement(metrics={"loss": NAN})),
        'final_measurement.metrics["loss"]',
    ),
    "named": (known(name="studies/s/trials/1"), "name"),
}


@pytest.mark.parametrize("case", IMPORTS)
async def test_wrong_imports_add_nothing(service: Service, case: str) -> None:
    await service.create(study(space=space()))
    wrong, field = IMPORTS[case]
    request = search_pb2.AddTrialsRequest(study="studies/s", trials=[known(), wrong])
    with pytest.raises(InvalidInput) as caught:
        await calling(service.stub.AddTrials(request))
    assert caught.value.field == f"trials[1].{field}"
    assert not await service.trials()


async def test_a_full_disk_loses_nothing_and_heals(small_disk: Path) -> None:
    async with running(small_disk) as service:
        await service.create(study(max_trials=100_000))
        (leased,) = (await service.suggest()).trials
        filling = small_disk / "filling"
        with pytest.raises(OSError, match="No space"):
            filling.write_bytes(bytes(4 << 20))

        async def ask_on() -> None:
            # A few pages may still fit into what the journal has already taken.
            for i in range(200):
                await service.suggest(f"w{i}", 50)

        with pytest.raises(ResourceExhausted, match="full") as caught:
            await ask_on()
        assert caught.value.retryable
        (small_disk / "ballast").unlink()
        assert (await service.complete(leased, 1.0)).accepted
        trials = await service.trials(page_size=1000)
        assert [int(t.name.rpartition("/")[2]) for t in trials] == list(range(1, len(trials) + 1))
        counts = (await service.study()).trial_counts
        assert counts.running + counts.completed == len(trials)


async def refused(service: Service, wrong: search_pb2.Study, field: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        await service.create(wrong)
    error = caught.value
    assert field in [violation.field for violation in error.violations], error
    assert isinstance(error, KeeptuneError)
    with pytest.raises(NotFound):
        await service.study()
    return error
