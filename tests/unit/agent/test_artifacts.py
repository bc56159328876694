from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keeptune.agent.artifacts import ArtifactFetcher
from keeptune.runtime.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidInput,
    PermissionDenied,
    Unavailable,
)
from keeptune.runtime.manifest import manifest
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc, types_pb2

CONTENT = bytes(range(256)) * 40


def artifact(content: bytes = CONTENT, **changes: Any) -> types_pb2.Artifact:
    fields = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    return types_pb2.Artifact(**{**fields, **changes})


class Link(deployment_pb2_grpc.AgentLinkServicer):
    """Sends `content` in parts; breaks off after `break_at` bytes of the first call."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.break_at = 0
        self.offsets: list[int] = []

    async def FetchArtifact(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.offsets.append(request.offset)
        for start in range(request.offset, len(self.content), 1000):
            if self.break_at and start >= self.break_at and len(self.offsets) == 1:
                await context.abort(grpc.StatusCode.INTERNAL, "broken")
            yield deployment_pb2.FetchArtifactResponse(data=self.content[start : start + 1000])


@pytest.fixture
async def link() -> AsyncIterator[tuple[Link, Any]]:
    servicer = Link()
    server = grpc.aio.server()
    deployment_pb2_grpc.add_AgentLinkServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, deployment_pb2_grpc.AgentLinkStub(channel)
    await server.stop(0)


async def test_a_broken_download_goes_on_where_it_broke(
    link: tuple[Link, Any], tmp_path: Path
) -> None:
    servicer, stub = link
    servicer.break_at = 4000
    fetcher = ArtifactFetcher(tmp_path / "artifacts", stub)
    with pytest.raises(Exception, match="broken"):
        await fetcher.fetch(artifact())
    path = await fetcher.fetch(artifact())
    assert path.read_bytes() == CONTENT
    assert servicer.offsets == [0, 4000]
    assert await fetcher.fetch(artifact()) == path
    assert len(servicer.offsets) == 2
    fetcher.discard(artifact())
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_what_is_not_what_its_name_says_is_refused(
    link: tuple[Link, Any], tmp_path: Path
) -> None:
    servicer, stub = link
    fetcher = ArtifactFetcher(tmp_path / "artifacts", stub)
    servicer.content = CONTENT[:-1] + b"!"
    with pytest.raises(DataLoss, match="checksum"):
        await fetcher.fetch(artifact())
    servicer.content = CONTENT + b"more"
    with pytest.raises(DataLoss, match="longer"):
        await fetcher.fetch(artifact())
    with pytest.raises(InvalidInput):
        await fetcher.fetch(artifact(sha256="../../etc/passwd"))
    with pytest.raises(FailedPrecondition, match="profile"):
        await fetcher.fetch_profile(artifact(size_bytes=2**30))


async def test_an_absent_control_plane_is_worth_another_try(tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        fetcher = ArtifactFetcher(tmp_path / "a", deployment_pb2_grpc.AgentLinkStub(channel))
        with pytest.raises(Unavailable):
            await fetcher.fetch(artifact())


def test_only_signed_versions_pass(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    version = deployment_pb2.ModelVersion(name="models/m/versions/1", onnx=artifact())
    version.manifest_signature = key.sign(manifest(version))
    fetcher = ArtifactFetcher(tmp_path / "a", None, registry_key=public)  # type: ignore[arg-type]
    fetcher.verify(version)
    for change in (
        {"name": "models/m/versions/2"},
        {"onnx": artifact(b"other")},
        {"manifest_signature": b""},
    ):
        forged = deployment_pb2.ModelVersion()
        forged.CopyFrom(version)
        forged.MergeFrom(deployment_pb2.ModelVersion(**change))
        if change.get("manifest_signature") == b"":
            forged.manifest_signature = bytes(64)
        with pytest.raises(PermissionDenied, match="not signed"):
            fetcher.verify(forged)
