"""Calls that the agent's commands make: join a control plane, ask a running agent."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from keeptune.agent.config import AgentSettings
from keeptune.agent.credentials import HostCredential
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import in_plain_words, open_channel
from keeptune.runtime.errors import Unauthenticated, Unavailable
from keeptune.v1 import agent_pb2, agent_pb2_grpc, deployment_pb2, deployment_pb2_grpc


async def enroll(settings: AgentSettings, join_token: str) -> Path:
    """Trades the token for a credential and stores it, for its owner only; returns where."""
    request = deployment_pb2.EnrollRequest(
        request_id=uuid.uuid4().hex,
        host_id=settings.host,
        join_token=join_token,
        info=deployment_pb2.HostInfo(labels=settings.labels),
    )
    async with open_channel(
        settings.deployment, credentials=ClientCredentials(ca=settings.ca)
    ) as channel:
        answer = await calling(deployment_pb2_grpc.AgentLinkStub(channel).Enroll(request))
    credential = HostCredential(settings.host, answer.credential, answer.registry_public_key)
    return await asyncio.to_thread(credential.store, settings.data_dir)


async def ask_status(settings: AgentSettings) -> agent_pb2.AgentStatus:
    """What the agent at `server.listen` says, shown the token in its data folder.

    Raises Unavailable when none answers there, Unauthenticated when it is not that folder's.
    """
    tokens_file = settings.server.tokens_file or settings.data_dir / "credentials"
    listen = settings.server.listen
    try:
        async with open_channel(
            listen,
            credentials=ClientCredentials.from_file(tokens_file),
            wait_for_ready=False,
            timeout=10.0,
        ) as channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            return await calling(stub.GetStatus(agent_pb2.GetStatusRequest()))
    except Unauthenticated as error:
        raise Unauthenticated(
            f"{tokens_file} has no token for the agent at {listen}",
            fix="give --config or --data-dir of the agent",
        ) from error
    except Unavailable as error:
        raise Unavailable(
            f"no agent answers at {listen}: {in_plain_words(error.message)}",
            fix="start it with `keeptune agent run`, or give its --config or --listen",
        ) from error
