"""Kill -9 of the deployment service at any moment of a rollout: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from keeptune.v1 import deployment_pb2 as pb
from tests.integration.deployment.agent import Agent
from tests.integration.deployment.control_plane import ControlPlane, DeploymentProcess
from tests.integration.deployment.judged import Evaluations


@pytest.mark.timeout(240)
async def test_rollouts_go_on_after_kills(tmp_path: Path, evaluations: Evaluations) -> None:
    process = DeploymentProcess(tmp_path, evaluations)
    rng = random.Random(7)
    agents: list[Agent] = []
    try:
        await process.start()
        plane = process.connect()
        await plane.model()
        versions = [(await plane.version(judged)).name for judged in evaluations.good]

        async def slowly(_: pb.Order) -> None:
            await asyncio.sleep(rng.uniform(0.05, 0.4))

        agents = [
            Agent(f"hosts/{name}", plane.address, plane.credentials, script=slowly)
            for name in "abc"
        ]
        for each in agents:
            each.start()
        await asyncio.gather(*(each.welcomed.wait() for each in agents))
        for number, (version, judged) in enumerate(zip(versions, evaluations.good, strict=True)):
            name = f"r{number}"
            await plane.roll_out(
                version, judged, name, f"{name}/rollout", wave_size=1, bake={"nanos": 300_000_000}
            )
            for _ in range(3):
                await asyncio.sleep(rng.uniform(0.1, 0.9))
                process.kill()
                await process.start()
                # The caller cannot know whether it was heard, and asks again.
                await plane.roll_out(
                    version,
                    judged,
                    name,
                    f"{name}/rollout",
                    wave_size=1,
                    bake={"nanos": 300_000_000},
                )
            ended = await plane.ended(f"rollouts/{name}", seconds=60)
            assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED, ended.reason
            assert [h.wave for h in ended.hosts] == [1, 2, 3]
            assert await plane.champion() == version
            for each in agents:
                assert each.serving() == version
                _check_orders(each, version)
        await plane.channel.close()
    finally:
        for each in agents:
            await each.stop()
        process.kill()


def _check_orders(agent: Agent, version: str) -> None:
    """Each step was ordered; what came twice is the same order, sent again."""
    by_sequence: dict[int, str] = {}
    for order in agent.received:
        assert by_sequence.setdefault(order.sequence, order.id) == order.id
    promoted = {order.id for order in agent.received if order.promote.version == version}
    assert len(promoted) == 1, "one promotion was ordered"


async def test_an_acknowledged_rollout_survives_a_kill_at_once(
    tmp_path: Path, evaluations: Evaluations
) -> None:
    process = DeploymentProcess(tmp_path, evaluations)
    try:
        await process.start()
        plane: ControlPlane = process.connect()
        await plane.model()
        version = await plane.version(evaluations.good[0])
        created = await plane.roll_out(version.name, evaluations.good[0], "r", "r/rollout")
        process.kill()
        await process.start()
        found = await plane.rollout("rollouts/r")
        assert (found.name, found.version) == (created.name, version.name)
        host = Agent("hosts/a", plane.address, plane.credentials)
        async with host:
            ended = await plane.ended("rollouts/r", seconds=60)
        assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED
        await plane.channel.close()
    finally:
        process.kill()
