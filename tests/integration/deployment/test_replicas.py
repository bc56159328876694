"""Two replicas on one PostgreSQL: any of them serves any call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from keeptune.runtime.errors import Conflict
from keeptune.v1 import deployment_pb2 as pb
from tests.integration.deployment.agent import Agent
from tests.integration.deployment.control_plane import eventually, running
from tests.integration.deployment.judged import Evaluations
from tests.integration.deployment.test_captures import batch as captured
from tests.integration.deployment.test_captures import export, upload


@pytest.mark.postgres
async def test_replicas_share_the_work(
    tmp_path: Path, evaluations: Evaluations, postgres_url: str
) -> None:
    shared = {
        "database": postgres_url,
        "registry_key": tmp_path / "registry.key",
        "join_token": tmp_path / "join-token",
    }
    async with (
        running(tmp_path / "one", evaluations, **shared) as one,
        running(tmp_path / "two", evaluations, **shared) as two,
    ):
        first = Agent("hosts/a", one.address, one.credentials)
        second = Agent("hosts/b", two.address, two.credentials)
        async with first, second:
            await one.model()
            versions = await asyncio.gather(*(two.version(j) for j in evaluations.good))
            assert {v.name for v in versions} == {f"models/digits/versions/{n}" for n in (1, 2)}
            for version, judged in zip(versions, evaluations.good, strict=True):
                created = await one.roll_out(version.name, judged)
                ended = await two.ended(created.name)
                assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED, ended.reason
                assert first.serving() == second.serving() == version.name
            for each in (first, second):
                sequences = [order.sequence for order in each.received]
                assert sequences == sorted(set(sequences))
                assert each.kinds().count("promote") == 2

            assert await upload(one, captured(0, 8), 8, "u1", host="hosts/a") == 8
            assert await upload(two, captured(0, 8), 8, "u1", host="hosts/a") == 8
            assert (await export(two, recent_fraction=0.0)).training_rows == 8

            moved = Agent("hosts/a", two.address, two.credentials)
            async with moved:
                await eventually(lambda: first.ended)
                assert isinstance(first.ended, Conflict)
