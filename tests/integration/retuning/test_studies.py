"""The study of a retune on the real search service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keeptune.retuning.peers import Made, Peers
from keeptune.retuning.studies import ensure_study
from tests.integration.search.service import Service, running, space, study


async def test_it_learns_from_those_of_the_same_model_that_fit(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        peers = Peers(service.stub, *[None] * 3)  # type: ignore[arg-type]
        await finished(service, "a", "digits")
        other = space()
        for spec in other.parameters:
            spec.name = f"other-{spec.name}"
            for condition in spec.conditions:
                condition.parent = f"other-{condition.parent}"
        await finished(service, "b", "digits", space=other)
        await finished(service, "c", "letters")
        await service.create(study(labels={"model": "digits"}), "d")
        await finished(service, "e", "digits")
        for _ in range(2):
            wanted = study(labels={"model": "digits"}, algorithm="tpe")
            await ensure_study(Made("retunes/r"), wanted, peers)
            assert list((await service.study("r")).warm_start) == ["studies/e", "studies/a"]
        (leased,) = (await service.suggest(study="r")).trials
        assert leased.trial.source == "warm-start"


async def finished(service: Service, name: str, model: str, **more: Any) -> None:
    wanted = study(labels={"model": model}, **more)
    await service.create(wanted, name)
    (leased,) = (await service.suggest(study=name)).trials
    await service.complete(leased, 1.0)
