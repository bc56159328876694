"""Serving hosts: as the deployment service knows them, and the one of the config file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keeptune.cli.checks import Check, section
from keeptune.cli.reading import read_config

if TYPE_CHECKING:
    from keeptune.cli.session import Session

_SECONDS = 5.0
# The agent's own defaults.
_AGENT, _AGENT_DATA = "127.0.0.1:7320", "/var/lib/keeptune-agent"


async def check(session: Session) -> list[Check]:
    """Hosts that have connected; Triton and the agent when there is a section `agent`."""
    checks = await _hosts(session)
    if settings := section(read_config(session.config), "agent"):
        agent, triton_ready = await _agent(settings)
        checks += [await _triton(section(settings, "triton"), triton_ready), agent]
    return checks


async def _hosts(session: Session) -> list[Check]:
    from keeptune.client.nouns import BY_NOUN
    from keeptune.client.resources import list_all
    from keeptune.client.services import AsyncServices
    from keeptune.runtime.errors import KeeptuneError

    try:
        services = AsyncServices(session.connection(), timeout=_SECONDS, wait_for_ready=False)
    except KeeptuneError:
        # The checks of the services have said so.
        return []
    try:
        return [_host(host) async for host in list_all(services, BY_NOUN["host"])]
    except KeeptuneError:
        return []
    finally:
        await services.close()


def _host(host: Any) -> Check:
    from keeptune.client.results import enum_name

    state = enum_name(host)
    if state != "CONNECTED":
        return Check(
            host.name, "warn", f"{state}: {host.reason}", "see that its agent runs and reaches us"
        )
    if not host.info.triton_ready:
        return Check(host.name, "warn", "Triton is not ready", "start Triton on the host")
    sick = [model for model in host.models if not model.healthy]
    if sick:
        return Check(host.name, "warn", f"{sick[0].model}: {sick[0].reason}", "see the agent's log")
    return Check(
        host.name, "ok", f"Triton {host.info.triton_version}, serves {len(host.models)} models"
    )


async def _triton(settings: dict[str, Any], ready_by_agent: bool | None) -> Check:
    """Ready by its own account, over gRPC; by the agent's where the file does not say where it is:
    flags or the environment may have told the agent. None = the agent did not answer.
    """
    import grpc.aio

    address = _triton_address(settings)
    if not address and ready_by_agent:
        return Check("triton", "ok", "ready, the agent says")
    if not address and ready_by_agent is not None:
        return Check("triton", "fail", "not ready, the agent says", "see its log")
    if not address:
        return Check(
            "triton",
            "fail",
            "not started here, or not named",
            "keeptune agent triton, or set agent.triton.state_dir or agent.triton.grpc",
        )
    async with grpc.aio.insecure_channel(address) as channel:
        # ServerReadyResponse is one bool; tritonclient is the agent's alone.
        ready: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerReady",
            request_serializer=lambda _: b"",
            response_deserializer=lambda raw: bool(raw and raw[-1]),
        )
        try:
            if await ready(None, timeout=_SECONDS):
                return Check("triton", "ok", f"ready at {address}")
            found = "says that it is not ready"
        except grpc.RpcError as error:
            found = f"cannot be reached: {error.details() or error.code().name}"
    return Check("triton", "fail", f"{address} {found}", "see its log; keeptune agent triton")


def _triton_address(settings: dict[str, Any]) -> str:
    if folder := settings.get("state_dir"):
        try:
            written = json.loads((Path(str(folder)).expanduser() / "triton.json").read_text())
            return f"{written['host']}:{written['grpc_port']}"
        except (OSError, ValueError, KeyError):
            return ""
    return str(settings.get("grpc") or "")


async def _agent(settings: dict[str, Any]) -> tuple[Check, bool | None]:
    """And whether its Triton is ready; None when it does not answer."""
    from keeptune.runtime.auth import ClientCredentials
    from keeptune.runtime.calls import calling
    from keeptune.runtime.channel import in_plain_words, open_channel
    from keeptune.runtime.errors import KeeptuneError
    from keeptune.v1 import agent_pb2, agent_pb2_grpc

    address = str(section(settings, "server").get("listen") or _AGENT)
    tokens = Path(str(settings.get("data_dir") or _AGENT_DATA), "credentials")
    try:
        channel = open_channel(
            address,
            credentials=ClientCredentials.from_file(tokens),
            timeout=_SECONDS,
            wait_for_ready=False,
        )
        async with channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            status = await calling(stub.GetStatus(agent_pb2.GetStatusRequest()))
    except KeeptuneError as error:
        found = error.message.partition("; fix: ")[0]
        fix = error.fix or "start it with `keeptune agent run`"
        return Check("agent", "fail", f"{address}: {in_plain_words(found)}", fix), None
    ready = status.info.triton_ready
    if not status.control_plane_connected:
        away = Check(
            "agent",
            "warn",
            f"{status.host} is away from the control plane: {status.control_plane_reason}",
            "see its address and tokens in section agent",
        )
        return away, ready
    memory = f"{status.info.agent_rss_bytes / 1e6:.0f} MB"
    return Check("agent", "ok", f"{status.host}, {memory}"), ready
