"""Rollouts from the request to the hosts, over real gRPC, with versions that were really judged."""

from __future__ import annotations

from functools import partial

import pytest

from keeptune.runtime.calls import calling, streaming
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, NotFound, NotImplementedYet
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import monitoring_pb2
from tests.integration.deployment.agent import Agent, Refused
from tests.integration.deployment.control_plane import ControlPlane, eventually

V1, V2 = "models/digits/versions/1", "models/digits/versions/2"


def agent(plane: ControlPlane, name: str = "a", **fields: object) -> Agent:
    return Agent(f"hosts/{name}", plane.address, plane.credentials, **fields)  # type: ignore[arg-type]


async def first_version(plane: ControlPlane, **model: object) -> None:
    """Model and both versions in the registry; version 1 rolled out to whoever is connected."""
    await plane.model(**model)
    for judged in plane.evaluations.good:
        await plane.version(judged)
    created = await plane.roll_out(V1, plane.evaluations.good[0])
    ended = await plane.ended(created.name)
    assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED, ended.reason


async def test_two_versions_reach_a_host_one_after_the_other(plane: ControlPlane) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        assert host.serving() == V1
        assert host.kinds() == ["stage", "promote", "finish"]
        assert await plane.champion() == V1

        created = await plane.roll_out(V2, plane.evaluations.good[1], rollout_id="second")
        assert created.previous_version == V1
        ended = await plane.ended("rollouts/second")
        assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED
        assert [h.stage for h in ended.hosts] == [pb.HOST_STAGE_DONE]
        assert host.serving() == V2
        assert host.models["models/digits"].standby == ""
        assert await plane.champion() == V2
        assert [order.sequence for order in host.received] == list(range(1, 7))
        stage = host.received[3].stage
        assert stage.package.backend == "python"
        assert 'backend: "python"' in stage.package.config
        assert stage.monitoring.sampling_rate == 0.1
        assert stage.monitoring.health.max_error_rate == 0.02


async def test_a_canary_that_refuses_keeps_the_others_as_they_were(plane: ControlPlane) -> None:
    def refuse(order: pb.Order) -> None:
        if order.stage.version.name == V2:
            raise Refused("Triton refuses to load it")

    async with agent(plane, "a", script=refuse) as canary, agent(plane, "b") as other:
        await first_version(plane)
        created = await plane.roll_out(V2, plane.evaluations.good[1])
        ended = await plane.ended(created.name)
        assert ended.state == pb.ROLLOUT_STATE_ROLLED_BACK
        assert "hosts/a: Triton refuses to load it" in ended.reason
        assert ended.next_step
        assert [h.stage for h in ended.hosts] == [pb.HOST_STAGE_FAILED, pb.HOST_STAGE_WAITING]
        assert (canary.serving(), other.serving()) == (V1, V1)
        assert await plane.champion() == V1
        assert V2 not in [o.stage.version.name for o in other.received]


async def test_a_host_that_goes_back_by_itself_halts_the_rollout(plane: ControlPlane) -> None:
    async with agent(plane, "a") as canary, agent(plane, "b") as other:
        await first_version(plane)
        created = await plane.roll_out(
            V2, plane.evaluations.good[1], canary_hosts=2, bake={"seconds": 60}
        )
        await plane.in_state(created.name, pb.ROLLOUT_STATE_BAKING)
        assert (canary.serving(), other.serving()) == (V2, V2)
        served = canary.models["models/digits"]
        served.serving, served.standby, served.reason = V1, "", "error rate 0.4 over 0.02"
        await canary.report()
        ended = await plane.ended(created.name)
        assert ended.state == pb.ROLLOUT_STATE_ROLLED_BACK
        assert "went back by itself: error rate 0.4 over 0.02" in ended.reason
        assert other.serving() == V1
        assert other.kinds()[-1] == "roll_back"


async def test_commands_pause_resume_and_roll_back(plane: ControlPlane) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        name = (await plane.roll_out(V2, plane.evaluations.good[1], bake={"seconds": 60})).name
        await plane.in_state(name, pb.ROLLOUT_STATE_BAKING)
        paused = await calling(plane.stub.PauseRollout(pb.PauseRolloutRequest(name=name)))
        assert paused.state == pb.ROLLOUT_STATE_PAUSED
        assert paused.next_step
        resumed = await calling(plane.stub.ResumeRollout(pb.ResumeRolloutRequest(name=name)))
        assert resumed.state == pb.ROLLOUT_STATE_BAKING
        request = pb.RollBackRequest(request_id="back", name=name, reason="complaints")
        for _ in range(2):
            backing = await calling(plane.stub.RollBack(request))
            assert backing.state == pb.ROLLOUT_STATE_ROLLING_BACK
        ended = await plane.ended(name)
        assert ended.state == pb.ROLLOUT_STATE_ROLLED_BACK
        assert "complaints" in ended.reason
        assert host.serving() == V1
        with pytest.raises(FailedPrecondition, match="ROLLED_BACK"):
            await calling(plane.stub.PauseRollout(pb.PauseRolloutRequest(name=name)))


async def test_a_succeeded_rollout_is_taken_back_by_command(plane: ControlPlane) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        name = (await plane.roll_out(V2, plane.evaluations.good[1])).name
        await plane.ended(name)
        assert await plane.champion() == V2
        await calling(plane.stub.RollBack(pb.RollBackRequest(name=name)))
        assert await plane.champion() == V1
        ended = await plane.ended(name)
        assert ended.state == pb.ROLLOUT_STATE_ROLLED_BACK
        assert host.serving() == V1
        # An older one is not the last word any more.
        first = (await calling(plane.stub.ListRollouts(pb.ListRolloutsRequest()))).rollouts[0]
        again = await plane.roll_out(V2, plane.evaluations.good[1])
        await plane.ended(again.name)
        with pytest.raises(FailedPrecondition, match="not the newest"):
            await calling(plane.stub.RollBack(pb.RollBackRequest(name=first.name)))


async def test_one_rollout_of_a_model_at_a_time(plane: ControlPlane) -> None:
    await plane.model()
    for judged in plane.evaluations.good:
        await plane.version(judged)
    running = await plane.roll_out(V1, plane.evaluations.good[0], "one", request_id="r1")
    assert running.state == pb.ROLLOUT_STATE_PENDING
    again = await plane.roll_out(V1, plane.evaluations.good[0], "one", request_id="r1")
    assert again == running
    with pytest.raises(FailedPrecondition, match="rollouts/one is rolling out") as caught:
        await plane.roll_out(V2, plane.evaluations.good[1])
    assert caught.value.reason == "ROLLOUT_UNDER_WAY"
    waiting = await eventually(lambda: _with_next_step(plane, "rollouts/one"))
    assert "no connected host" in waiting.reason
    async with agent(plane) as host:
        ended = await plane.ended("rollouts/one")
        assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED
        assert host.serving() == V1


async def _with_next_step(plane: ControlPlane, name: str) -> pb.Rollout | None:
    found = await plane.rollout(name)
    return found if found.next_step else None


async def test_only_a_passed_evaluation_of_this_artifact_opens_the_way(
    plane: ControlPlane,
) -> None:
    await plane.model()
    good, bad = plane.evaluations.good[0], plane.evaluations.bad
    await plane.version(good)
    await plane.version(bad)
    with pytest.raises(FailedPrecondition, match="has not passed its gate") as rejected:
        await plane.roll_out(V2, bad)
    assert rejected.value.field == "rollout.evaluation"
    with pytest.raises(InvalidInput, match="judged the artifact") as other:
        await plane.roll_out(V2, good)
    assert other.value.field == "rollout.evaluation"
    unknown = type(good)(good.onnx, "evaluations/nobody", good.profile)
    with pytest.raises(NotFound) as missing:
        await plane.roll_out(V1, unknown)
    assert missing.value.field == "rollout.evaluation"
    with pytest.raises(InvalidInput) as nameless:
        await plane.roll_out(V1, type(good)(good.onnx, "", good.profile))
    assert nameless.value.field == "rollout.evaluation"
    with pytest.raises(NotFound) as no_version:
        await plane.roll_out("models/digits/versions/9", good)
    assert no_version.value.field == "rollout.version"
    with pytest.raises(NotImplementedYet, match="canary"):
        await plane.roll_out(V1, good, shadow=True)
    listed = await calling(plane.stub.ListRollouts(pb.ListRolloutsRequest()))
    assert not listed.rollouts


async def test_a_watch_replays_resumes_and_ends(plane: ControlPlane) -> None:
    async with agent(plane):
        await first_version(plane)
    (done,) = (await calling(plane.stub.ListRollouts(pb.ListRolloutsRequest()))).rollouts
    seen = [
        event
        async for event in streaming(
            plane.stub.WatchRollout(pb.WatchRolloutRequest(name=done.name))
        )
    ]
    states = [event.rollout.state for event in seen]
    assert states[0] == pb.ROLLOUT_STATE_PENDING
    assert states[-1] == pb.ROLLOUT_STATE_SUCCEEDED
    assert [e.revision for e in seen] == sorted({e.revision for e in seen})
    rest = [
        event
        async for event in streaming(
            plane.stub.WatchRollout(
                pb.WatchRolloutRequest(name=done.name, revision=seen[1].revision)
            )
        )
    ]
    assert rest == seen[2:]
    nothing = streaming(
        plane.stub.WatchRollout(pb.WatchRolloutRequest(name=done.name, revision=seen[-1].revision))
    )
    assert [event async for event in nothing] == []


async def test_a_host_with_a_fresh_disk_and_a_new_host_get_the_champion(
    plane: ControlPlane,
) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        await host.stop()
        host.models.clear()
        host.received.clear()
        host.last_sequence = 0
        async with agent(plane, "b") as late:
            host.start()
            await eventually(lambda: host.serving() == V1 and late.serving() == V1)
            assert host.kinds()[:2] == ["stage", "promote"]
            assert late.kinds()[:2] == ["stage", "promote"]


async def test_only_hosts_with_the_labels_serve_it(plane: ControlPlane) -> None:
    gpu = agent(plane, "a")
    gpu.info.labels["pool"] = "gpu"
    async with gpu, agent(plane, "b") as other:
        await first_version(plane, host_selector={"pool": "gpu"})
        assert gpu.serving() == V1
        assert other.received == []
        update = pb.UpdateModelRequest(
            model=pb.Model(name="models/digits", host_selector={"pool": "cpu"}),
            update_mask={"paths": ["host_selector"]},
        )
        await calling(plane.stub.UpdateModel(update))
        await eventually(lambda: gpu.kinds()[-1:] == ["remove"])
        assert gpu.models == {}


async def test_changed_monitoring_reaches_hosts_without_a_rollout(plane: ControlPlane) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        orders = len(host.received)
        update = pb.UpdateModelRequest(
            model=pb.Model(
                name="models/digits",
                monitoring=monitoring_pb2.Monitoring(
                    sampling_rate=0.5, capture=monitoring_pb2.Capture(enabled=True)
                ),
            ),
            update_mask={"paths": ["monitoring"]},
        )
        updated = await calling(plane.stub.UpdateModel(update))
        assert updated.monitoring.drift.average_run_length == 50_000
        assert updated.monitoring.capture.labelled_only
        await eventually(lambda: host.monitoring["models/digits"].sampling_rate == 0.5)
        assert host.monitoring["models/digits"] == updated.monitoring
        assert host.kinds()[orders:] == ["configure"]
        update.model.display_name = "Digits"
        update.update_mask.paths.append("display_name")
        await calling(plane.stub.UpdateModel(update))
        await plane.host("hosts/a")
        assert host.kinds()[orders:] == ["configure"]


async def test_a_bake_waits_for_requests_that_hosts_count(plane: ControlPlane) -> None:
    async with agent(plane) as host:
        await first_version(plane)
        name = (await plane.roll_out(V2, plane.evaluations.good[1], min_bake_requests=100)).name
        await eventually(lambda: host.serving() == V2)
        served = host.models["models/digits"]
        # The third report is from an agent that has started again, and counts from zero.
        for count, total in ((10, 10), (60, 60), (5, 65), (40, 100)):
            served.statistics.requests = count
            served.statistics.failures = 1
            await host.report()
            seen = await eventually(partial(_with_requests, plane, name, total))
        assert (seen.hosts[0].requests, seen.hosts[0].failures) == (100, 1)
        assert (await plane.ended(name)).state == pb.ROLLOUT_STATE_SUCCEEDED


async def _with_requests(plane: ControlPlane, name: str, count: int) -> pb.Rollout | None:
    found = await plane.rollout(name)
    return found if found.hosts[0].requests >= count else None


async def test_render_manifests_says_what_to_do_meanwhile(plane: ControlPlane) -> None:
    with pytest.raises(NotImplementedYet, match="come later"):
        await calling(plane.stub.RenderManifests(pb.RenderManifestsRequest(model="models/digits")))
