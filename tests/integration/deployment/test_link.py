"""The agents' link: who may speak, what is sent again after a break, what is not."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling, streaming
from keeptune.runtime.channel import open_channel
from keeptune.runtime.errors import (
    Conflict,
    InvalidInput,
    KeeptuneError,
    PermissionDenied,
    Unauthenticated,
    from_rpc_error,
)
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import deployment_pb2_grpc, monitoring_pb2
from tests.integration.deployment.agent import Agent
from tests.integration.deployment.control_plane import ControlPlane, eventually, running
from tests.integration.deployment.judged import Evaluations

V1, V2 = "models/digits/versions/1", "models/digits/versions/2"


def agent(plane: ControlPlane, name: str = "a", **fields: Any) -> Agent:
    return Agent(f"hosts/{name}", plane.address, plane.credentials, **fields)


async def enroll(
    plane: ControlPlane, host_id: str, request_id: str = ""
) -> tuple[ClientCredentials, bytes]:
    token = (plane.folder / "join-token").read_text().strip()
    async with open_channel(plane.address, credentials=ClientCredentials()) as channel:
        stub: Any = deployment_pb2_grpc.AgentLinkStub(channel)
        answer = await calling(
            stub.Enroll(pb.EnrollRequest(host_id=host_id, join_token=token, request_id=request_id))
        )
    assert answer.host == f"hosts/{host_id}"
    return ClientCredentials(answer.credential), answer.registry_public_key


async def refused(
    plane: ControlPlane, credentials: ClientCredentials, *messages: pb.AgentMessage
) -> KeeptuneError:
    """How the server ends a stream on which these messages are sent."""
    async with open_channel(plane.address, credentials=credentials) as channel:
        stub: Any = deployment_pb2_grpc.AgentLinkStub(channel)
        call = stub.Connect()
        try:
            for message in messages:
                await call.write(message)
            async for _ in call:
                pass
        except grpc.RpcError as error:
            return from_rpc_error(error)
        except asyncio.InvalidStateError:
            return from_rpc_error(await _error_of(call))
    raise AssertionError("the stream went well")


async def _error_of(call: Any) -> grpc.RpcError:
    try:
        await call.read()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the stream went well")


def hello(host: str) -> pb.AgentMessage:
    return pb.AgentMessage(hello=pb.AgentHello(host=host))


async def test_a_host_enrolls_and_is_served_by_its_own_credential(plane: ControlPlane) -> None:
    credentials, key = await enroll(plane, "a")
    assert (await plane.host("hosts/a")).state == pb.HOST_STATE_AWAY
    host = Agent("hosts/a", plane.address, credentials, public_key=key)
    async with host:
        await plane.model()
        version = await plane.version(plane.evaluations.good[0])
        rollout = await plane.roll_out(version.name, plane.evaluations.good[0])
        assert (await plane.ended(rollout.name)).state == pb.ROLLOUT_STATE_SUCCEEDED
        assert host.serving() == V1
        seen = await plane.host("hosts/a")
        assert seen.state == pb.HOST_STATE_CONNECTED
        assert seen.info.triton_version == "2.51.0"
        assert seen.models[0].serving == V1


async def test_a_credential_speaks_for_its_host_alone(plane: ControlPlane) -> None:
    mine, _ = await enroll(plane, "a")
    error = await refused(plane, mine, hello("hosts/b"))
    assert (type(error), error.reason) == (PermissionDenied, "NOT_YOUR_HOST")
    newer, _ = await enroll(plane, "a")
    error = await refused(plane, mine, hello("hosts/a"))
    assert (type(error), error.reason) == (Unauthenticated, "CREDENTIAL_REPLACED")
    async with Agent("hosts/a", plane.address, newer):
        pass
    async with open_channel(plane.address, credentials=newer) as channel:
        stub: Any = deployment_pb2_grpc.DeploymentServiceStub(channel)
        with pytest.raises(PermissionDenied):
            await calling(stub.CreateModel(pb.CreateModelRequest(model_id="m", model=pb.Model())))
    forged = ClientCredentials(newer.token[:-4] + "AAA=")
    assert isinstance(await refused(plane, forged, hello("hosts/a")), Unauthenticated)


async def test_a_repeated_enrolment_gets_the_same_credential(plane: ControlPlane) -> None:
    first, _ = await enroll(plane, "a", "enrol-1")
    again, _ = await enroll(plane, "a", "enrol-1")
    assert first == again
    with pytest.raises(InvalidInput, match="used for another request"):
        await enroll(plane, "b", "enrol-1")
    listed = await calling(plane.stub.ListHosts(pb.ListHostsRequest()))
    assert [each.name for each in listed.hosts] in ([], ["hosts/a"])
    async with Agent("hosts/a", plane.address, first):
        pass


@pytest.mark.parametrize(("token", "kind"), [("", InvalidInput), ("guess", Unauthenticated)])
async def test_enrolling_needs_the_join_token(
    plane: ControlPlane, token: str, kind: type[KeeptuneError]
) -> None:
    with pytest.raises(kind) as caught:
        await calling(plane.link.Enroll(pb.EnrollRequest(host_id="a", join_token=token)))
    assert caught.value.field == "join_token"
    listed = await calling(plane.stub.ListHosts(pb.ListHostsRequest()))
    assert not listed.hosts


async def test_viewers_do_not_connect(plane: ControlPlane) -> None:
    error = await refused(plane, ClientCredentials("looking"), hello("hosts/a"))
    assert isinstance(error, PermissionDenied)


async def test_the_stream_begins_with_one_greeting(plane: ControlPlane) -> None:
    report = pb.AgentMessage(report=pb.HostReport())
    for messages in ([report], [hello("hosts/a"), hello("hosts/a")], [hello("gremlins/a")]):
        error = await refused(plane, plane.credentials, *messages)
        assert isinstance(error, InvalidInput)
        assert error.field.startswith("hello")


async def test_the_newest_session_wins(plane: ControlPlane) -> None:
    async with agent(plane) as old:
        async with agent(plane):
            await eventually(lambda: old.ended)
            assert isinstance(old.ended, Conflict)
            assert old.ended.reason == "SESSION_REPLACED"
        assert old.connections == 1


async def test_an_order_not_answered_is_sent_again_and_one_answered_is_not(
    plane: ControlPlane,
) -> None:
    await plane.model()
    version = await plane.version(plane.evaluations.good[0])
    host = agent(plane, deaf={"promote"})
    async with host:
        name = (await plane.roll_out(version.name, plane.evaluations.good[0])).name
        await eventually(lambda: "promote" in host.kinds())
    assert host.kinds() == ["stage", "promote"]
    host.deaf.clear()
    async with host:
        ended = await plane.ended(name)
    assert ended.state == pb.ROLLOUT_STATE_SUCCEEDED
    assert host.kinds() == ["stage", "promote", "promote", "finish"]
    assert host.received[1] == host.received[2], "the very same order, id and sequence"


async def test_an_answer_that_was_lost_is_not_asked_for_again(plane: ControlPlane) -> None:
    """The host carried the order out and knows it; only its answer went under."""
    await plane.model()
    version = await plane.version(plane.evaluations.good[0])
    host = agent(plane, deaf={"promote"})
    async with host:
        name = (await plane.roll_out(version.name, plane.evaluations.good[0])).name
        await eventually(lambda: "promote" in host.kinds())
    served = host.models["models/digits"]
    served.serving, served.staged, served.healthy = version.name, "", True
    host.last_sequence = host.received[-1].sequence
    async with host:
        assert (await plane.ended(name)).state == pb.ROLLOUT_STATE_SUCCEEDED
    assert host.kinds() == ["stage", "promote", "finish"]


async def test_repeated_and_foreign_answers_change_nothing(plane: ControlPlane) -> None:
    await plane.model()
    version = await plane.version(plane.evaluations.good[0])
    async with agent(plane, answer_twice=True) as host, agent(plane, "z") as other:
        await other.say(
            pb.AgentMessage(
                order_result=pb.OrderResult(order_id="nobody", state=pb.ORDER_STATE_FAILED)
            )
        )
        name = (await plane.roll_out(version.name, plane.evaluations.good[0])).name
        assert (await plane.ended(name)).state == pb.ROLLOUT_STATE_SUCCEEDED
        # An answer to another host's order is nobody's.
        await other.say(
            pb.AgentMessage(
                order_result=pb.OrderResult(
                    order_id=host.received[0].id, state=pb.ORDER_STATE_FAILED, reason="mine?"
                )
            )
        )
        await other.report()
        assert (await plane.rollout(name)).state == pb.ROLLOUT_STATE_SUCCEEDED
        assert host.kinds() == ["stage", "promote", "finish"]


async def test_sequences_go_on_above_what_the_host_remembers(plane: ControlPlane) -> None:
    """As after the control plane was set up anew beside hosts that live on."""
    await plane.model()
    version = await plane.version(plane.evaluations.good[0])
    async with agent(plane, last_sequence=500) as host:
        name = (await plane.roll_out(version.name, plane.evaluations.good[0])).name
        await plane.ended(name)
        assert host.received[0].sequence == 501


async def test_a_silent_host_is_away_and_said_so(tmp_path: Any, evaluations: Evaluations) -> None:
    async with running(tmp_path, evaluations, away_seconds=0.5) as plane, agent(plane) as host:
        assert (await plane.host("hosts/a")).state == pb.HOST_STATE_CONNECTED
        away = await eventually(lambda: _in_state(plane, pb.HOST_STATE_AWAY))
        assert "silent since" in away.reason
        listed = await calling(plane.stub.ListHosts(pb.ListHostsRequest(filter="state = AWAY")))
        assert [each.name for each in listed.hosts] == ["hosts/a"]
        await host.report()
        back = await eventually(lambda: _in_state(plane, pb.HOST_STATE_CONNECTED))
        assert back.reason == ""


async def _in_state(plane: ControlPlane, state: int) -> pb.Host | None:
    found = await plane.host("hosts/a")
    return found if found.state == state else None


async def test_signals_are_kept_with_the_host_the_same_trouble_once(
    tmp_path: Any, evaluations: Evaluations
) -> None:
    async with running(tmp_path, evaluations, recent_signals=2) as plane, agent(plane) as host:
        for signal_id, statistic in (("s1", 1.0), ("s2", 2.0), ("s2", 2.5), ("s3", 3.0)):
            signal = monitoring_pb2.Signal(
                id=signal_id,
                kind=monitoring_pb2.SIGNAL_KIND_DRIFT,
                model="models/digits",
                host="hosts/somebody-else",
                statistic=statistic,
                channels=[monitoring_pb2.ChannelEvidence(channel="image.mean", effect=0.4)],
            )
            await host.say(pb.AgentMessage(signal=signal))
        seen = await eventually(lambda: _with_signal(plane, "s3"))
    assert [(s.id, s.statistic) for s in seen.recent_signals] == [("s2", 2.5), ("s3", 3.0)]
    assert {s.host for s in seen.recent_signals} == {"hosts/a"}
    assert seen.recent_signals[0].channels[0].channel == "image.mean"


async def _with_signal(plane: ControlPlane, signal_id: str) -> pb.Host | None:
    found = await plane.host("hosts/a")
    return found if signal_id in [s.id for s in found.recent_signals] else None


async def test_reports_without_news_leave_no_trace_in_the_log_of_events(
    plane: ControlPlane,
) -> None:
    async with agent(plane) as host:
        before = (await plane.host("hosts/a")).metadata.revision
        host.info.agent_rss_bytes = 7
        await host.report()
        await eventually(lambda: _with_rss(plane, 7))
        assert (await plane.host("hosts/a")).metadata.revision == before


async def _with_rss(plane: ControlPlane, rss: int) -> bool:
    return (await plane.host("hosts/a")).info.agent_rss_bytes == rss


async def test_artifacts_go_to_hosts_that_were_ordered_them(plane: ControlPlane) -> None:
    credentials, key = await enroll(plane, "a")
    await plane.model()
    good, other = plane.evaluations.good
    version = await plane.version(good)
    content = await plane.artifacts.get_bytes(good.onnx)
    async with Agent("hosts/a", plane.address, credentials, public_key=key):
        await plane.ended((await plane.roll_out(version.name, good)).name)
    async with open_channel(plane.address, credentials=credentials) as channel:
        stub: Any = deployment_pb2_grpc.AgentLinkStub(channel)
        for offset in (0, 1, len(content) - 3, len(content)):
            parts = [
                part
                async for part in streaming(
                    stub.FetchArtifact(
                        pb.FetchArtifactRequest(sha256=good.onnx.sha256, offset=offset)
                    )
                )
            ]
            assert b"".join(part.data for part in parts) == content[offset:]
            assert {part.total_bytes for part in parts} == {len(content)}
        for sha256, offset, kind in (
            (other.onnx.sha256, 0, PermissionDenied),
            (good.onnx.sha256, len(content) + 1, InvalidInput),
            ("xyz", 0, InvalidInput),
        ):
            with pytest.raises(kind):
                async for _ in streaming(
                    stub.FetchArtifact(pb.FetchArtifactRequest(sha256=sha256, offset=offset))
                ):
                    pass
    stranger, _ = await enroll(plane, "b")
    async with open_channel(plane.address, credentials=stranger) as channel:
        stub = deployment_pb2_grpc.AgentLinkStub(channel)
        with pytest.raises(PermissionDenied):
            async for _ in streaming(
                stub.FetchArtifact(pb.FetchArtifactRequest(sha256=good.onnx.sha256))
            ):
                pass
