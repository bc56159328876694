"""Studies that start from earlier ones, of other data or of a space that has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.search import warm_start
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import (
    Service,
    objective,
    running,
    space,
    strings,
    study,
    values,
)

WARM = {"algorithm": "tpe", "warm_start": ["studies/earlier"]}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as service:
        yield service


async def sources(service: Service, count: int, name: str = "s") -> list[str]:
    """What proposed the next trials, each of which is completed."""
    found = []
    for _ in range(count):
        (leased,) = (await service.suggest(study=name)).trials
        found.append(leased.trial.source)
        await service.complete(leased, 1.0)
    return found


async def test_its_first_trials_are_the_best_of_the_earlier_study(service: Service) -> None:
    await service.create(study(), "earlier")
    await service.run(12, study="earlier")
    best = (await service.stub.ListOptimalTrials(
        search_pb2.ListOptimalTrialsRequest(parent="studies/earlier")
    )).trials[0]  # fmt: skip
    created = await service.create(study(**WARM))
    assert created.chosen_because.endswith("learns from 12 results of studies/earlier")
    (first,) = (await service.suggest()).trials
    assert values(first.trial) == values(best)
    assert first.trial.source == "warm-start"
    assert first.trial.because == "exploit: number 1 of 12 in an earlier study"
    # Equal losses: as good as what the algorithm tries itself, so that it goes on.
    await service.complete(first, 1.0)
    assert await sources(service, 8) == ["tpe", "warm-start"] * 3 + ["tpe", "tpe"]


async def test_a_space_that_has_changed(service: Service) -> None:
    """Another range, a category less and one more, a parameter gone and a new one."""
    await service.create(study(), "earlier")
    await service.run(30, study="earlier")
    changed = space()
    by_name = {spec.name: spec for spec in changed.parameters}
    by_name["kind"].categories.CopyFrom(strings("c", "new", "b"))
    by_name["x"].float_range.max = 8.0
    changed.parameters.remove(by_name["rate"])
    changed.parameters.append(
        types_pb2.ParameterSpec(name="extra", float_range=types_pb2.FloatRange(min=5.0, max=6.0))
    )
    await service.create(study(space=changed, **WARM))
    trials = [(await service.suggest(f"w{i}")).trials[0].trial for i in range(6)]
    known = [values(trial) for trial in trials if trial.source == "warm-start"]
    assert len(known) == 2
    assert all(5.0 <= each["extra"] <= 6.0 and "rate" not in each for each in known)
    earlier = [values(trial) for trial in await service.trials("earlier")]
    assert all(any(abs(e["x"] - each["x"]) < 1e-9 for e in earlier) for each in known)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (
            {"metrics": [search_pb2.Metric(name="auc", goal=types_pb2.GOAL_MAXIMIZE)]},
            "measured auc",
        ),
        (
            {
                "space": types_pb2.SearchSpace(
                    parameters=[
                        types_pb2.ParameterSpec(
                            name="other", float_range=types_pb2.FloatRange(min=0, max=1)
                        )
                    ]
                )
            },
            "none of the parameters other",
        ),
        (
            {
                "space": types_pb2.SearchSpace(
                    parameters=[
                        types_pb2.ParameterSpec(
                            name="x", float_range=types_pb2.FloatRange(min=1e6, max=2e6)
                        )
                    ]
                )
            },
            "lies in this space",
        ),
    ],
    ids=["metric", "parameters", "ranges"],
)
async def test_what_has_nothing_to_teach_is_refused(
    service: Service, wanted: dict[str, object], why: str
) -> None:
    await service.create(study(), "earlier")
    await service.run(3, study="earlier")
    with pytest.raises(InvalidInput, match=why) as caught:
        await service.create(study(**(WARM | wanted)))
    assert caught.value.field == "study.warm_start[0]"


async def test_a_study_without_results_is_refused(service: Service) -> None:
    await service.create(study(), "earlier")
    with pytest.raises(InvalidInput, match="no trial has completed"):
        await service.create(study(**WARM))


@pytest.mark.parametrize("algorithm", ["tpe", "nevergrad/OnePlusOne"])
async def test_what_becomes_of_the_earlier_study_changes_nothing(
    tmp_path: Path, algorithm: str
) -> None:
    """Nor does a restart: the results were copied when the study began."""
    suggested = []
    for disturbed in (False, True):
        folder = tmp_path / str(disturbed)
        async with running(folder) as service:
            await service.create(study(), "earlier")
            await service.run(10, study="earlier")
            await service.create(study(**(WARM | {"algorithm": algorithm})))
            found = await service.run(3)
            if disturbed:
                await service.run(5, study="earlier")
                delete = search_pb2.DeleteStudyRequest(name="studies/earlier")
                await service.stub.DeleteStudy(delete)
            else:
                found += await service.run(9)
        if disturbed:
            async with running(folder) as service:
                found += await service.run(9)
        suggested.append(found)
    assert suggested[0] == suggested[1]


async def test_of_a_long_study_the_best_are_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_start, "_MOST_READ", 10)
    await service.create(study(), "earlier")
    done = await service.run(40, study="earlier")
    created = await service.create(study(**WARM))
    assert "learns from" in created.chosen_because
    (first,) = (await service.suggest()).trials
    assert values(first.trial) == min(done, key=objective)
