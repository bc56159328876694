"""Several objectives and noisy ones, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.runtime.calls import calling
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import COMPLETED, Service, running, study, values

MAXIMIZE, MINIMIZE = types_pb2.GOAL_MAXIMIZE, types_pb2.GOAL_MINIMIZE
TWO = [
    search_pb2.Metric(name="accuracy", goal=MAXIMIZE),
    search_pb2.Metric(name="size", goal=MINIMIZE),
]
LINE = types_pb2.SearchSpace(
    parameters=[
        types_pb2.ParameterSpec(
            name="x", float_range=types_pb2.FloatRange(min=0, max=1, scale=types_pb2.SCALE_LINEAR)
        )
    ]
)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, ManualClock()) as found:
        yield found


def trial(x: float, **metrics: float) -> search_pb2.Trial:
    return search_pb2.Trial(
        state=COMPLETED,
        parameters={"x": types_pb2.ParameterValue(double_value=x)},
        final_measurement=types_pb2.Measurement(metrics=metrics),
    )


async def add(service: Service, *trials: search_pb2.Trial) -> None:
    await service.stub.AddTrials(search_pb2.AddTrialsRequest(study="studies/s", trials=trials))


async def optimal(service: Service, *reference: float) -> search_pb2.ListOptimalTrialsResponse:
    request = search_pb2.ListOptimalTrialsRequest(parent="studies/s", reference_point=reference)
    return await calling(service.stub.ListOptimalTrials(request))


async def test_a_front_comes_with_its_hypervolume(service: Service) -> None:
    await service.create(study(space=LINE, metrics=TWO))
    empty = await optimal(service)
    assert (len(empty.trials), empty.HasField("hypervolume")) == (0, False)
    await add(
        service,
        trial(0.1, accuracy=0.9, size=30),
        trial(0.2, accuracy=0.8, size=10),
        trial(0.3, accuracy=0.7, size=20),
    )
    found = await optimal(service, 0.5, 40)
    assert [each.name[-1] for each in found.trials] == ["1", "2"]
    assert list(found.hypervolume.reference_point) == [0.5, 40]
    assert found.hypervolume.value == pytest.approx(0.1 * 10 + 0.3 * 30)
    # By default a tenth of the front's span behind its worst.
    found = await optimal(service)
    assert list(found.hypervolume.reference_point) == pytest.approx([0.79, 32])
    assert found.hypervolume.value == pytest.approx(0.1 * 2 + 0.01 * 22)
    with pytest.raises(InvalidInput, match="accuracy, size") as caught:
        await optimal(service, 0.5)
    assert caught.value.field == "reference_point"


async def test_one_objective_has_no_hypervolume(service: Service) -> None:
    await service.create(study())
    await service.run(2)
    found = await optimal(service)
    assert len(found.trials) == 1
    assert not found.HasField("hypervolume")


async def test_only_objectives_are_noisy(service: Service) -> None:
    cost = search_pb2.Metric(name="cost", role=search_pb2.METRIC_ROLE_COST, noisy=True)
    loss = search_pb2.Metric(name="loss", goal=MINIMIZE, noisy=True)
    with pytest.raises(InvalidInput) as caught:
        await service.create(study(metrics=[loss, cost]))
    assert caught.value.field == "study.metrics[1].noisy"
    await service.create(study(metrics=[loss]))
    assert (await service.study()).metrics[0].noisy


async def test_leading_points_of_a_noisy_study_are_repeated(service: Service) -> None:
    """A parabola with much noise: some points come again, and the model sees through the luck."""
    loss = search_pb2.Metric(name="loss", goal=MINIMIZE, noisy=True)
    await service.create(study(space=LINE, metrics=[loss], algorithm="bayesian", max_trials=30))
    rng = np.random.default_rng(3)
    seen: list[float] = []
    for _ in range(30):
        (leased,) = (await service.suggest()).trials
        x = float(values(leased.trial)["x"])
        seen.append(x)
        await service.complete(leased, (x - 0.6) ** 2 + 0.1 * float(rng.standard_normal()))
    trials: list[Any] = await service.trials()
    repeats = [each for each in trials if each.source == "repeat"]
    assert len(seen) - len(set(seen)) == len(repeats) >= 1
    assert all("measured" in each.because for each in repeats)
    request = search_pb2.GetStudyOutlookRequest(study="studies/s")
    found = (await calling(service.stub.GetStudyOutlook(request))).by_model
    chosen = await service.trial(int(found.trial.rpartition("/")[2]))
    assert abs(float(values(chosen)["x"]) - 0.6) < 0.15
    assert 0.05 < found.noise < 0.2
    assert found.expected_low < found.expected < found.expected_high
    assert abs(found.expected) < 0.1
    assert "by the model" in found.remark
