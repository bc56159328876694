"""Every process is killed at random moments of a retune; the loop closes all the same."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from rich.console import Console

from keeptune.demo.stage import SERVICES, Stage, build_stage
from keeptune.demo.story import Script, Story
from keeptune.runtime.calls import calling
from keeptune.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    retuning_pb2,
    retuning_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from tests.e2e.chaos import TRAINING_WORKER, TRITON_ITSELF, Chaos

_SECONDS = 420


@pytest.mark.triton
@pytest.mark.timeout(_SECONDS + 120)
@pytest.mark.xdist_group("loop")
async def test_the_loop_closes_under_kills(tmp_path: Path, serving_host: Path) -> None:
    stage = build_stage(tmp_path, serving_host=serving_host, apart=True)
    script = Script(seed=12, calm_requests=900, trials=8, retry_seconds=60.0, act_seconds=_SECONDS)
    story = AuditedStory(stage, script, Console(stderr=True))
    chaos = Chaos(stage, random.Random(12))

    async def strike() -> None:
        await story.camera_changed.wait()
        await chaos.run(pause=(0.5, 2.5))

    striking = asyncio.create_task(strike())
    story.before_audit = striking.cancel
    try:
        summary = await story.run()
    finally:
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)
    assert summary.problems == []
    assert chaos.kills.total() >= 10, chaos.kills
    assert {*SERVICES, "agent", TRITON_ITSELF} <= set(chaos.kills), chaos.kills
    assert chaos.kills[TRAINING_WORKER] >= 1, chaos.kills
    assert summary.failed_requests == 0
    assert summary.versions == ["1", "2"]


class AuditedStory(Story):
    """Looks, while everything still runs, whether anything was lost or doubled."""

    before_audit = staticmethod(lambda: None)

    async def finale(self) -> None:
        self.before_audit()
        await self._until_calm()
        await audit(self.stage, self.script)

    async def _until_calm(self) -> None:
        """All killed parts are back."""
        for part in self.stage.control_parts:
            await part.until(self.stage.ready(part.name), seconds=60, what="it is back")


async def audit(stage: Stage, script: Script) -> None:
    async with stage.channel("retuning") as channel:
        stub = retuning_pb2_grpc.RetuningServiceStub(channel)
        listed = await calling(stub.ListRetunes(retuning_pb2.ListRetunesRequest()))
    retunes = list(listed.retunes)
    # One for the policy, one for the drift: no request became two retunes.
    assert [r.state for r in retunes] == [retuning_pb2.RETUNE_STATE_SUCCEEDED] * 2
    async with stage.channel("deployment") as channel:
        deployment = deployment_pb2_grpc.DeploymentServiceStub(channel)
        versions = await calling(
            deployment.ListModelVersions(
                deployment_pb2.ListModelVersionsRequest(parent=retunes[0].model)
            )
        )
        rollouts = await calling(deployment.ListRollouts(deployment_pb2.ListRolloutsRequest()))
    assert [v.name for v in versions.versions] == [r.version for r in retunes]
    assert len(rollouts.rollouts) == 2
    async with stage.channel("search") as channel:
        search = search_pb2_grpc.SearchServiceStub(channel)
        studies = await calling(search.ListStudies(search_pb2.ListStudiesRequest()))
        assert [s.name for s in studies.studies] == [r.study for r in retunes]
        for retune in retunes:
            trials = await calling(
                search.ListTrials(search_pb2.ListTrialsRequest(parent=retune.study, page_size=1000))
            )
            numbers = [int(t.name.rpartition("/")[2]) for t in trials.trials]
            assert sorted(numbers) == list(range(1, script.trials + 1))
            ended = {
                search_pb2.TRIAL_STATE_COMPLETED,
                search_pb2.TRIAL_STATE_PRUNED,
                search_pb2.TRIAL_STATE_INFEASIBLE,
                search_pb2.TRIAL_STATE_FAILED,
            }
            assert {t.state for t in trials.trials} <= ended
