"""Every process is killed at random moments of a retune; the loop closes all the same."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from rich.console import Console

from keeptune.demo.policy import MODEL
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

_SECONDS = 400
_ENDED = {
    search_pb2.TRIAL_STATE_COMPLETED,
    search_pb2.TRIAL_STATE_PRUNED,
    search_pb2.TRIAL_STATE_INFEASIBLE,
    search_pb2.TRIAL_STATE_FAILED,
}


@pytest.mark.triton
@pytest.mark.timeout(_SECONDS + 200)
@pytest.mark.xdist_group("loop")
async def test_the_loop_closes_under_kills(tmp_path: Path, serving_host: Path) -> None:
    stage = build_stage(tmp_path, serving_host=serving_host, apart=True)
    script = Script(seed=12, calm_requests=900, trials=8, retry_seconds=60.0, act_seconds=_SECONDS)
    story = StruckStory(stage, script, Console(stderr=True))
    summary = await story.run()
    kills = story.chaos.kills
    assert summary.problems == []
    assert kills.total() >= 10
    assert set(kills) == {*SERVICES, "agent", TRITON_ITSELF, TRAINING_WORKER}
    assert summary.failed_requests == 0
    assert summary.versions[:2] == ["1", "2"]


class StruckStory(Story):
    """From the moment the camera changes, processes are killed."""

    def __init__(self, stage: Stage, script: Script, console: Console) -> None:
        super().__init__(stage, script, console)
        self.chaos = Chaos(stage, random.Random(script.seed))

    async def _strike(self) -> None:
        await self.camera_changed.wait()
        await self.chaos.run(extra=4, pause=(0.5, 2.5))

    async def run(self) -> object:
        self.striking = asyncio.create_task(self._strike())
        try:
            return await super().run()
        finally:
            self.striking.cancel()
            await asyncio.gather(self.striking, return_exceptions=True)

    async def finale(self) -> None:
        """Retunes until all kills are done, then looks whether anything was lost or doubled."""
        asked = 2
        while not self.striking.done():
            await self._another_retune()
            asked += 1
        await self.striking
        await audit(self.stage, self.script, retunes=asked)

    async def _another_retune(self) -> None:
        async with self.stage.channel("retuning") as channel:
            stub = retuning_pb2_grpc.RetuningServiceStub(channel)
            request = retuning_pb2.RequestRetuneRequest(
                request_id=f"again-{len(self._retunes())}",
                model=f"models/{MODEL}",
                note="more kills to come",
                force=True,
            )
            answer = await calling(stub.RequestRetune(request, timeout=120))
        name = answer.retune.name

        def ended() -> bool:
            return any(r.name == name for r in self._ended())

        await self._until(ended, f"{name} ended")


async def audit(stage: Stage, script: Script, *, retunes: int) -> None:
    async with stage.channel("retuning") as channel:
        stub = retuning_pb2_grpc.RetuningServiceStub(channel)
        listed = list((await calling(stub.ListRetunes(retuning_pb2.ListRetunesRequest()))).retunes)
    # One for the policy, one for the drift, one for each time we asked: none lost, none doubled.
    assert len(listed) == retunes
    succeeded = [r for r in listed if r.state == retuning_pb2.RETUNE_STATE_SUCCEEDED]
    assert listed[:2] == succeeded[:2]
    assert all(r.HasField("end_time") for r in listed)
    async with stage.channel("deployment") as channel:
        deployment = deployment_pb2_grpc.DeploymentServiceStub(channel)
        versions = await calling(
            deployment.ListModelVersions(
                deployment_pb2.ListModelVersionsRequest(parent=listed[0].model)
            )
        )
        rollouts = await calling(deployment.ListRollouts(deployment_pb2.ListRolloutsRequest()))
    assert [v.name for v in versions.versions] == [r.version for r in listed if r.version]
    assert [r.name for r in rollouts.rollouts] == [r.rollout for r in listed if r.rollout]
    async with stage.channel("search") as channel:
        search = search_pb2_grpc.SearchServiceStub(channel)
        studies = await calling(search.ListStudies(search_pb2.ListStudiesRequest()))
        assert [s.name for s in studies.studies] == [r.study for r in listed]
        for retune in listed:
            trials = await calling(
                search.ListTrials(search_pb2.ListTrialsRequest(parent=retune.study, page_size=1000))
            )
            numbers = [int(t.name.rpartition("/")[2]) for t in trials.trials]
            assert sorted(numbers) == list(range(1, script.trials + 1))
            assert {t.state for t in trials.trials} <= _ENDED
