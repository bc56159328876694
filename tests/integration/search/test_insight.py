"""What a study has taught, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.runtime.calls import calling
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, NotFound
from keeptune.search import insights
from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.optimizers.base import Nothing, Suggestion
from keeptune.search.optimizers.random_search import RandomSearch
from keeptune.search.space import Condition, Parameter, SearchSpace
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import (
    COMPLETED,
    Service,
    objective,
    running,
    study,
    values,
)

MAXIMIZE, MINIMIZE = types_pb2.GOAL_MAXIMIZE, types_pb2.GOAL_MINIMIZE


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, ManualClock()) as found:
        yield found


# The same as `space` of the service.
SPACE = SearchSpace(
    (
        Parameter("x", FloatRange(-5, 10)),
        Parameter("rate", FloatRange(1e-5, 1, log=True)),
        Parameter("depth", IntRange(1, 9)),
        Parameter("kind", Categories(("a", "b", "c"))),
        Parameter("width", IntRange(8, 64, step=8), (Condition("kind", ("b", "c")),)),
    )
)


def known(count: int, metrics: Sequence[str] = ("loss",)) -> list[search_pb2.Trial]:
    """Results from elsewhere; metrics beyond the first measure x and depth."""
    rng = np.random.default_rng(0)
    names = [parameter.name for parameter in SPACE.parameters]
    found = []
    for _ in range(count):
        parameters = SPACE.at(dict(zip(names, rng.random(len(names)), strict=True)))
        measured = dict(
            zip(
                metrics, (objective(parameters), parameters["x"], parameters["depth"]), strict=False
            )
        )
        found.append(
            search_pb2.Trial(
                state=COMPLETED,
                parameters={name: _value(value) for name, value in parameters.items()},
                final_measurement=types_pb2.Measurement(metrics=measured),
            )
        )
    return found


def _value(value: Any) -> types_pb2.ParameterValue:
    match value:
        case str():
            return types_pb2.ParameterValue(string_value=value)
        case int():
            return types_pb2.ParameterValue(int_value=value)
        case _:
            return types_pb2.ParameterValue(double_value=value)


async def importance(service: Service, metric: str = "", study: str = "studies/s") -> Any:
    request = search_pb2.GetParameterImportanceRequest(study=study, metric=metric)
    return await calling(service.stub.GetParameterImportance(request))


async def dependence(service: Service, *parameters: str, **more: Any) -> Any:
    request = search_pb2.GetPartialDependenceRequest(
        study="studies/s", parameters=parameters, **more
    )
    return await calling(service.stub.GetPartialDependence(request))


async def outlook(service: Service, study: str = "studies/s", **more: Any) -> Any:
    request = search_pb2.GetStudyOutlookRequest(study=study, **more)
    return await calling(service.stub.GetStudyOutlook(request))


async def add(service: Service, trials: Sequence[search_pb2.Trial]) -> None:
    await service.stub.AddTrials(search_pb2.AddTrialsRequest(study="studies/s", trials=trials))


async def test_which_parameters_matter(service: Service) -> None:
    await service.create(study())
    await add(service, known(200))
    found = await importance(service)
    assert found.metric == "loss"
    assert (found.trials, found.trees % 16) == (200, 0)
    assert found.r_squared > 0.8
    assert "most" in found.remark
    assert {each.parameter for each in found.importances} == {"x", "rate", "depth", "kind", "width"}
    first = found.importances[0]
    assert first.parameter == "x"
    assert 0.8 < first.value <= 1
    assert first.low <= first.value <= first.high
    assert len(found.interactions) == 10
    assert all(len(each.parameters) == 2 for each in found.interactions)
    assert await importance(service) == found
    # What is kept does not outlive what it was made of.
    await add(service, known(20))
    assert (await importance(service)).trials == 220


async def test_every_metric_can_be_asked_about(service: Service) -> None:
    metrics = [
        search_pb2.Metric(name="loss", goal=MINIMIZE),
        search_pb2.Metric(name="gain", goal=MAXIMIZE),
        search_pb2.Metric(name="cost", goal=MINIMIZE, role=search_pb2.METRIC_ROLE_COST),
    ]
    await service.create(study(metrics=metrics))
    await add(service, known(60, ["loss", "gain", "cost"]))
    assert (await importance(service, "gain")).importances[0].parameter == "x"
    assert (await importance(service, "cost")).importances[0].parameter == "depth"
    rising = await dependence(service, "x", metric="gain", points=4)
    assert rising.mean[-1] > rising.mean[0] + 8
    best = await outlook(service, metric="gain")
    assert best.best == pytest.approx(max(t.parameters["x"].double_value for t in known(60)))
    assert best.expected_best_low <= best.expected_best <= best.expected_best_high
    assert best.expected_best >= best.best


async def test_how_a_metric_follows_parameters(service: Service) -> None:
    await service.create(study())
    await add(service, known(200))
    curve = await dependence(service, "x")
    (axis,) = curve.axes
    places = [value.double_value for value in axis.values]
    assert (axis.parameter, len(places), places[0], places[-1]) == ("x", 20, -5.0, 10.0)
    # The valley is at 3.
    assert places[int(np.argmin(curve.mean))] == pytest.approx(3, abs=1.6)
    assert all(
        low <= mean <= high
        for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
    )
    both = await dependence(service, "kind", "width", points=3)
    kinds, widths = both.axes
    assert [value.string_value for value in kinds.values] == ["a", "b", "c"]
    assert [value.int_value for value in widths.values] == [8, 40, 64]
    assert len(both.mean) == 9


async def test_what_further_trials_will_bring(service: Service) -> None:
    await service.create(study(max_trials=30))
    await service.run(20)
    found = await outlook(service)
    trials = await service.trials()
    losses = {trial.name: trial.final_measurement.metrics["loss"] for trial in trials}
    assert found.best_trial == min(losses, key=lambda name: losses[name])
    assert found.best == losses[found.best_trial]
    assert (found.metric, found.trials, found.further_trials) == ("loss", 20, 10)
    assert 0.0 < found.improvement_probability < 1.0
    assert found.expected_best <= found.best
    assert 0 <= found.regret_low <= found.regret <= found.regret_high
    assert found.advice in (search_pb2.ADVICE_CONTINUE, search_pb2.ADVICE_OPTIONAL)
    assert "10 further trials" in found.verdict
    assert len(found.evidence) == 4
    assert await outlook(service) == found
    hopeless = await outlook(service, tolerance=1e6, trials=3)
    assert hopeless.advice == search_pb2.ADVICE_STOP
    assert (hopeless.further_trials, hopeless.improvement_probability) == (3, 0.0)
    assert "will probably not help" in hopeless.verdict
    await service.run(10)
    # Nothing is left of the budget: half as many again.
    assert (await outlook(service)).further_trials == 15


async def test_only_what_keeps_the_constraints_is_the_best(service: Service) -> None:
    metrics = [
        search_pb2.Metric(name="loss", goal=MINIMIZE),
        search_pb2.Metric(
            name="size", goal=MINIMIZE, role=search_pb2.METRIC_ROLE_CONSTRAINT, limit=0.0
        ),
    ]
    await service.create(study(metrics=metrics))
    trials = known(60, ["loss", "size"])
    await add(service, trials)
    measured = [trial.final_measurement.metrics for trial in trials]
    found = await outlook(service)
    assert found.best == min(each["loss"] for each in measured if each["size"] <= 0)
    assert found.best > min(each["loss"] for each in measured)


async def test_too_little_is_said_to_be_too_little(service: Service) -> None:
    await service.create(study())
    await add(service, known(7))
    for ask in (
        importance(service),
        dependence(service, "x"),
        outlook(service),
    ):
        with pytest.raises(FailedPrecondition, match="3 more trials must complete") as caught:
            await ask
        assert caught.value.reason == "TOO_FEW_TRIALS"
        assert "AddTrials" in caught.value.fix
        assert caught.value.metadata == {"completed": "7", "needed": "10"}
    same = known(12)
    for trial in same:
        trial.final_measurement.metrics["loss"] = 0.25
    await service.create(study(), "flat")
    await service.stub.AddTrials(search_pb2.AddTrialsRequest(study="studies/flat", trials=same))
    with pytest.raises(FailedPrecondition, match="the same in all 12") as caught:
        await importance(service, study="studies/flat")
    assert caught.value.reason == "CONSTANT_METRIC"
    with pytest.raises(FailedPrecondition, match="the same in all 12") as caught:
        await outlook(service, "studies/flat")
    assert caught.value.reason == "CONSTANT_METRIC"


async def test_huge_values_do_no_harm(service: Service) -> None:
    await service.create(study())
    trials = known(30)
    for trial, value in zip(trials, (1e308, -1e308), strict=False):
        trial.final_measurement.metrics["loss"] = value
    await add(service, trials)
    assert all(0 <= each.value <= 1 for each in (await importance(service)).importances)
    assert np.isfinite((await dependence(service, "x")).mean).all()
    found = await outlook(service)
    assert np.isfinite([found.best, found.expected_best, found.regret_high]).all()


async def test_what_is_not_there_is_named(service: Service) -> None:
    await service.create(study())
    await add(service, known(12))
    for missing in (
        importance(service, study="studies/none"),
        outlook(service, "studies/none"),
    ):
        with pytest.raises(NotFound, match="studies/none"):
            await missing
    for ask, field in (
        (importance(service, "speed"), "metric"),
        (outlook(service, metric="speed"), "metric"),
        (dependence(service, "x", metric="speed"), "metric"),
        (dependence(service, "x", "y"), "parameters[1]"),
        (dependence(service), "parameters"),
        (dependence(service, "x", "x"), "parameters"),
        (dependence(service, "x", points=101), "points"),
        (outlook(service, tolerance=-1.0), "tolerance"),
        (outlook(service, tolerance=float("nan")), "tolerance"),
        (outlook(service, trials=-1), "trials"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await ask
        assert caught.value.field == field


@pytest.mark.postgres
async def test_every_replica_says_the_same(tmp_path: Path, postgres_url: str) -> None:
    async with (
        running(tmp_path / "a", database=postgres_url) as one,
        running(tmp_path / "b", database=postgres_url) as two,
        running(tmp_path / "c") as other,
    ):
        for service in (one, other):
            await service.create(study())
            await add(service, known(40))
        for ask in (importance, outlook):
            answers = [await ask(service) for service in (one, two, other)]
            assert answers[0] == answers[1] == answers[2]


async def test_of_many_trials_a_part_is_enough(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "_MOST_TRIALS", 50)
    monkeypatch.setattr(insights, "_READ_AT_ONCE", 30)
    await service.create(study())
    await add(service, known(120))
    found = await importance(service)
    assert found.trials == 50
    assert found.importances[0].parameter == "x"
    whole = await outlook(service)
    assert whole.trials == 120
    assert whole.best == min(trial.final_measurement.metrics["loss"] for trial in known(120))


async def test_many_ask_at_once(service: Service) -> None:
    await service.create(study())
    await add(service, known(30))
    asked = [importance(service) for _ in range(8)] + [dependence(service, "x") for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert all(answer == answers[0] for answer in answers[:8])
    assert all(answer == answers[8] for answer in answers[8:])


async def test_a_trial_keeps_why_it_was_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = RandomSearch.ask

    def explained(self: RandomSearch, number: int) -> Suggestion | Nothing:
        found = ask(self, number)
        assert isinstance(found, Suggestion)
        return Suggestion(found.parameters, found.source, f"explore: draw {number}")

    async with running(tmp_path) as service:
        await service.create(study())
        await service.complete((await service.suggest()).trials[0], 1.0)
        monkeypatch.setattr(RandomSearch, "ask", explained)
        leased = (await service.suggest()).trials[0]
        assert leased.trial.because == "explore: draw 2"
        await service.complete(leased, 1.0)
    async with running(tmp_path) as service:
        because = [trial.because for trial in await service.trials()]
        assert because == ["explore: drawn by chance", "explore: draw 2"]
        assert values(await service.trial(2)) == values(leased.trial)
