"""Brings a version's artifacts onto the host, and lets nothing in that was not signed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import grpc
import structlog

from keeptune.agent.durable_file import raise_if_full
from keeptune.runtime.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidInput,
    PermissionDenied,
    Unavailable,
    from_rpc_error,
)
from keeptune.runtime.manifest import manifest
from keeptune.v1 import deployment_pb2, deployment_pb2_grpc, types_pb2

log = structlog.get_logger()

MAX_PROFILE_BYTES = 16 * 2**20
_QUIET_SECONDS = 30.0


class ArtifactFetcher:
    """Downloads below `folder`; a broken download goes on where it broke.

    `registry_key`: the registry's Ed25519 public key, 32 bytes; empty where the host was not
    enrolled, as on a development machine: then only checksums are verified.
    """

    def __init__(
        self,
        folder: Path,
        stub: deployment_pb2_grpc.AgentLinkAsyncStub,
        *,
        registry_key: bytes = b"",
    ) -> None:
        self._folder = folder
        self._stub = stub
        self._registry_key = registry_key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    def verify(self, version: deployment_pb2.ModelVersion) -> None:
        """Raises PermissionDenied when the registry has not signed this version as it is."""
        if not self._registry_key:
            return
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self._registry_key).verify(
                version.manifest_signature, manifest(version)
            )
        except (InvalidSignature, ValueError) as error:
            raise PermissionDenied(
                f"the manifest of {version.name} is not signed by this host's registry",
                reason="BAD_SIGNATURE",
                fix="enroll the host with the registry that made the version",
            ) from error

    async def fetch(self, artifact: types_pb2.Artifact) -> Path:
        """The file, whole and verified.

        Raises DataLoss where the content is not what its name says, ResourceExhausted when the
        disk is full, Unavailable while the control plane is away.
        """
        if len(artifact.sha256) != 64 or not artifact.sha256.isalnum():
            raise InvalidInput(field="sha256", problem="is not 64 lower-case hex digits")
        path = self._folder / artifact.sha256
        if path.exists():
            return path
        partial = path.with_suffix(".partial")
        if _size(partial) > artifact.size_bytes:
            partial.unlink()
        try:
            await self._download(artifact, partial)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except TimeoutError:
            raise Unavailable(
                f"artifact {artifact.sha256[:12]}... stopped coming for {_QUIET_SECONDS:.0f} s",
                retry_after=1.0,
            ) from None
        except OSError as error:
            raise_if_full(error, partial)
            raise
        digest = await asyncio.to_thread(_sha256, partial)
        if digest != artifact.sha256:
            partial.unlink()
            raise DataLoss(
                f"artifact {artifact.sha256[:12]}... came with the checksum {digest[:12]}...",
                reason="CHECKSUM_MISMATCH",
                fix="register the version again",
            )
        os.replace(partial, path)
        return path

    async def fetch_profile(self, artifact: types_pb2.Artifact) -> bytes:
        """A reference profile; small."""
        if artifact.size_bytes > MAX_PROFILE_BYTES:
            raise FailedPrecondition(
                f"the reference profile has {artifact.size_bytes} bytes; "
                f"at most {MAX_PROFILE_BYTES} are taken",
                reason="PROFILE_TOO_LARGE",
            )
        path = await self.fetch(artifact)
        content = path.read_bytes()
        path.unlink()
        return content

    def discard(self, artifact: types_pb2.Artifact) -> None:
        """Once it is in the model repository."""
        (self._folder / artifact.sha256).unlink(missing_ok=True)

    async def _download(self, artifact: types_pb2.Artifact, partial: Path) -> None:
        offset = _size(partial)
        call = self._stub.FetchArtifact(
            deployment_pb2.FetchArtifactRequest(sha256=artifact.sha256, offset=offset)
        )
        with partial.open("ab") as file:
            while True:
                async with asyncio.timeout(_QUIET_SECONDS):
                    part = await call.read()
                if not isinstance(part, deployment_pb2.FetchArtifactResponse):
                    break  # grpc.aio.EOF
                file.write(part.data)
                if file.tell() > artifact.size_bytes:
                    call.cancel()
                    raise DataLoss(
                        f"artifact {artifact.sha256[:12]}... is longer than its "
                        f"{artifact.size_bytes} bytes",
                        reason="CHECKSUM_MISMATCH",
                    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
