"""The wiring of the deployment service."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from keeptune.deployment.captures import Captures
from keeptune.deployment.config import DeploymentSettings
from keeptune.deployment.identity import HostCredentials, JoinToken
from keeptune.deployment.inspection import Limits
from keeptune.deployment.link_servicer import AgentLinkServicer
from keeptune.deployment.reconcile import Reconciler
from keeptune.deployment.registry import Registry
from keeptune.deployment.servicer import DeploymentServicer
from keeptune.deployment.sessions.link import Links
from keeptune.deployment.signing import RegistryKey
from keeptune.runtime.auth import Role
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.server import Context, Program
from keeptune.v1 import deployment_pb2_grpc, evaluation_pb2_grpc

_GRANTS = {Role.AGENT: ("Connect", "FetchArtifact", "UploadCapture")}


async def build(settings: DeploymentSettings, context: Context) -> Program:
    key_file = settings.registry_key or context.data_dir / "registry.key"
    key = RegistryKey.load_or_create(key_file)
    key.publish(key_file.with_suffix(".pub"))
    join_token = JoinToken(settings.join_token or context.data_dir / "join-token")
    credentials = HostCredentials(key)
    url = settings.database or f"sqlite:///{context.data_dir / 'deployment.db'}"
    database = await Database.open(url, clock=context.clock)
    await migrate(database, Path(__file__).parent / "migrations")
    reconciler = Reconciler(
        database,
        context.clock,
        seconds=settings.reconcile_seconds,
        away_after=timedelta(seconds=settings.away_seconds),
    )
    captures = Captures(
        database,
        context.artifacts,
        max_upload_bytes=settings.max_upload_bytes,
        max_kept_bytes=settings.max_captures_bytes,
    )
    deployment = DeploymentServicer(
        database,
        context.clock,
        versions=Registry(
            context.artifacts,
            key,
            Limits(settings.max_ir_version, settings.max_opset),
            settings.max_model_bytes,
        ),
        captures=captures,
        evaluations=evaluation_pb2_grpc.EvaluationServiceStub(context.open_channel("evaluation")),
        wake=reconciler.wake,
    )
    agents = AgentLinkServicer(
        database,
        context.artifacts,
        links=Links(
            database,
            context.clock,
            keep_signals=settings.recent_signals,
            wake=reconciler.wake,
        ),
        captures=captures,
        key=key,
        credentials=credentials,
        join_token=join_token,
    )

    return Program(
        name="deployment",
        servicers=[
            (
                deployment_pb2_grpc.add_DeploymentServiceServicer_to_server,
                deployment,
                "keeptune.v1.DeploymentService",
            ),
            (
                deployment_pb2_grpc.add_AgentLinkServicer_to_server,
                agents,
                "keeptune.v1.AgentLink",
            ),
        ],
        background=[reconciler.run],
        close=database.close,
        grants=_GRANTS,
        open_methods=("/keeptune.v1.AgentLink/Enroll",),
        token_source=credentials.caller,
    )
