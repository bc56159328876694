"""Algorithms in the service: a restart changes nothing, and a plugin is used like our own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import FailedPrecondition
from keeptune.search.optimizers import registry
from keeptune.v1 import search_pb2
from tests.integration.search.service import Service, objective, running, study, values

PLUGIN = """
from keeptune.search.optimizers.base import Algorithm, Method, Suggestion


class Middle:
    def __init__(self, problem):
        self._space = problem.space

    def ask(self, number):
        if number == 5:
            raise RuntimeError("five is too many")
        return Suggestion(self._space.at({p.name: 0.5 for p in self._space.free}), "middle")

    def tell(self, result):
        pass


METHOD = Method(Algorithm("middle", "The middle.", "nobody"), Middle)
"""


async def play(service: Service, trials: int) -> None:
    for _ in range(trials):
        (leased,) = (await service.suggest()).trials
        await service.complete(leased, objective(values(leased.trial)))


async def found(service: Service) -> list[dict[str, object]]:
    trials = await service.trials(order_by="")
    return [values(trial) for trial in sorted(trials, key=lambda t: int(t.name.split("/")[-1]))]


@pytest.mark.parametrize("algorithm", ["tpe", "regularized-evolution", "actor-critic"])
async def test_a_restart_changes_nothing(tmp_path: Path, algorithm: str) -> None:
    asked = study(algorithm=algorithm, max_trials=16)
    async with running(tmp_path / "undisturbed", ManualClock()) as service:
        await service.create(asked)
        await play(service, 16)
        undisturbed = await found(service)
    for trials in (0, 7, 6, 3):
        async with running(tmp_path / "restarted", ManualClock()) as service:
            if not trials:
                await service.create(asked)
            await play(service, trials)
            restarted = await found(service)
    assert len(restarted) == 16
    assert restarted == undisturbed


async def test_a_population_continues_from_its_own_trials_also_after_a_restart(
    tmp_path: Path,
) -> None:
    origins: list[dict[str, str]] = []
    for stops in ((), (3, 5, 9)):
        at = tmp_path / f"{len(stops)} stops"
        for begin, end in itertools.pairwise((0, *stops, 16)):
            async with running(at, ManualClock()) as service:
                if not begin:
                    await service.create(study(algorithm="pbt", max_trials=16))
                await play(service, end - begin)
                trials = await service.trials()
        origins.append({trial.name: trial.continue_from for trial in trials})
        assert [values(trial) for trial in trials]
    undisturbed, restarted = origins
    assert restarted == undisturbed
    members = [name for name, origin in undisturbed.items() if not origin]
    assert sorted(members) == [f"studies/s/trials/{i}" for i in range(1, 5)]
    # Whoever continues does so from a trial that has ended before.
    for name, origin in undisturbed.items():
        if origin:
            assert int(origin.rpartition("/")[2]) < int(name.rpartition("/")[2])


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "packages" / "middle-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: middle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[keeptune.optimizers]\nmiddle = middle_plugin:METHOD\nbroken = no_such_module:METHOD\n"
    )
    (info.parent / "middle_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(info.parent)
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()


@pytest.mark.usefixtures("plugin")
async def test_a_plugin_serves_and_harms_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path / "service", ManualClock()) as service:
        listed = await service.stub.ListAlgorithms(search_pb2.ListAlgorithmsRequest())
        names = [each.name for each in listed.algorithms]
        assert "middle" in names
        assert "broken" not in names
        with pytest.raises(FailedPrecondition, match="no_such_module"):
            await service.create(study(algorithm="broken"))
        created = await service.create(study(algorithm="middle"))
        assert created.chosen_algorithm == "middle"
        await play(service, 4)
        assert [trial.source for trial in await service.trials()] == ["middle"] * 4
        with pytest.raises(FailedPrecondition, match="'middle' cannot go on: five is too many"):
            await service.suggest()
        await service.create(study(algorithm="random"), study_id="other")
        assert (await service.suggest(study="other")).trials
