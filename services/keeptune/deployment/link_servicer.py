"""AgentLink: enrolment, the stream, artifacts down, captures up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from sqlalchemy import Connection

from keeptune.deployment.captures import Captures
from keeptune.deployment.identity import HostCredentials, JoinToken, check_speaks_for
from keeptune.deployment.sessions.link import Links
from keeptune.deployment.signing import RegistryKey
from keeptune.deployment.sql_store import hosts, orders
from keeptune.runtime import names
from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.auth import HEADER, Role, current_caller
from keeptune.runtime.db import Database
from keeptune.runtime.errors import InvalidInput, PermissionDenied
from keeptune.runtime.ledger import mutate
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_CHUNK = 256 * 1024


class AgentLinkServicer(deployment_pb2_grpc.AgentLinkServicer):
    def __init__(
        self,
        database: Database,
        blobs: ArtifactStore,
        *,
        links: Links,
        captures: Captures,
        key: RegistryKey,
        credentials: HostCredentials,
        join_token: JoinToken,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._links = links
        self._captures = captures
        self._key = key
        self._credentials = credentials
        self._join_token = join_token

    async def Enroll(
        self, request: deployment_pb2.EnrollRequest, context: Context
    ) -> deployment_pb2.EnrollResponse:
        self._join_token.check(request.join_token)
        host = names.host_name(request.host_id)
        credential = self._credentials.issue(host, request.request_id)

        def enroll(c: Connection) -> deployment_pb2.EnrollResponse:
            hosts.set_credential(c, host, credential)
            # The ledger keeps no secrets: the same request_id makes the same credential.
            return deployment_pb2.EnrollResponse(host=host)

        answer = await self._database.run(
            lambda c: mutate(
                c,
                request_id=request.request_id,
                method="Enroll",
                request=request,
                response_type=deployment_pb2.EnrollResponse,
                fn=lambda: enroll(c),
            )
        )
        answer.credential = credential
        answer.registry_public_key = self._key.public_key
        return answer

    async def Connect(
        self, request_iterator: AsyncIterator[deployment_pb2.AgentMessage], context: Context
    ) -> AsyncIterator[deployment_pb2.ServerMessage]:
        first = await anext(request_iterator, None)
        if first is None or not first.HasField("hello"):
            raise InvalidInput(
                field="hello", problem="is not the first message", fix="greet before all else"
            )
        host = first.hello.host
        await check_speaks_for(host, self._database, _token(context))
        async for message in self._links.serve(host, first.hello, request_iterator):
            yield message

    async def FetchArtifact(
        self, request: deployment_pb2.FetchArtifactRequest, context: Context
    ) -> AsyncIterator[deployment_pb2.FetchArtifactResponse]:
        await self._check_may_fetch(request.sha256, context)
        total = await self._blobs.size(request.sha256)
        if request.offset > total:
            raise InvalidInput(
                field="offset",
                problem=f"is {request.offset}; the artifact has {total} bytes",
                fix="start anew at 0",
            )
        position = 0
        sent = False
        async for chunk in self._blobs.open_stream(request.sha256, _CHUNK):
            data = chunk[max(0, request.offset - position) :]
            position += len(chunk)
            if data:
                sent = True
                yield deployment_pb2.FetchArtifactResponse(data=data, total_bytes=total)
        if not sent:
            yield deployment_pb2.FetchArtifactResponse(total_bytes=total)

    async def _check_may_fetch(self, sha256: str, context: Context) -> None:
        caller = current_caller()
        if caller.role in (Role.ADMIN, Role.OPERATOR):
            return
        host = caller.subject
        if host:
            await check_speaks_for(host, self._database, _token(context))
        if not await self._database.read(lambda c: orders.may_fetch(c, host, sha256)):
            raise PermissionDenied(
                f"no order of {host or 'any host'} names the artifact {sha256}",
                fix="fetch what a StageVersion order names",
                reason="ARTIFACT_NOT_ORDERED",
            )

    async def UploadCapture(
        self,
        request_iterator: AsyncIterator[deployment_pb2.UploadCaptureRequest],
        context: Context,
    ) -> deployment_pb2.UploadCaptureResponse:
        first = await anext(request_iterator, None)
        if first is None or not first.HasField("header"):
            raise InvalidInput(
                field="header", problem="is not the first part", fix="send the header first"
            )
        header = first.header
        host = header.host or current_caller().subject
        names.parse_host(host, field="header.host")
        await check_speaks_for(host, self._database, _token(context))
        rows = await self._captures.upload(host, header, _parts(request_iterator))
        return deployment_pb2.UploadCaptureResponse(rows=rows)


async def _parts(
    requests: AsyncIterator[deployment_pb2.UploadCaptureRequest],
) -> AsyncIterator[bytes]:
    async for request in requests:
        if not request.HasField("data"):
            raise InvalidInput(
                field="header", problem="came a second time", fix="send one upload a call"
            )
        yield request.data


def _token(context: Context) -> str:
    """The bearer token that the call shows."""
    for key, value in context.invocation_metadata() or ():
        if key == HEADER and isinstance(value, str):
            return value.partition(" ")[2]
    return ""
