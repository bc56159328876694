"""Takes model versions in: every artifact checked, the signature settled, the manifest signed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError
from sqlalchemy import Connection

from keeptune.deployment import inspection
from keeptune.deployment.convert import (
    SIGNATURE_KEY,
    lineage_to_json,
    signature_from_metadata,
    signature_from_proto,
    unsigned_to_proto,
)
from keeptune.deployment.inspection import Limits
from keeptune.deployment.model import Signature, Version
from keeptune.deployment.signature import Graph, problems
from keeptune.deployment.signing import RegistryKey
from keeptune.deployment.sql_store import registry as store
from keeptune.runtime import artifacts, names
from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.errors import DataLoss, InvalidInput, NotFound
from keeptune.runtime.manifest import manifest
from keeptune.runtime.records import Record
from keeptune.v1 import deployment_pb2, evaluation_pb2, types_pb2

_MAX_PROFILE_BYTES = 16 * 2**20
_DEFAULT_BATCH = 64
_DEFAULT_INSTANCES = 1
_ONNX = "application/onnx"
_PROFILE = "application/x-protobuf"


@dataclass(frozen=True)
class Registry:
    """The door to the registry. `max_bytes` bounds an ONNX file."""

    blobs: ArtifactStore
    key: RegistryKey
    limits: Limits
    max_bytes: int

    async def examine(self, message: deployment_pb2.ModelVersion) -> Version:
        """The version that a request describes, still without its number and signature.

        Raises InvalidInput naming the field for an artifact that is not what it should be,
        NotFound for one that is not in the store.
        """
        onnx = await self._stored(
            message.onnx, "version.onnx", media_type=_ONNX, max_bytes=self.max_bytes
        )
        profile = None
        if message.HasField("reference_profile"):
            profile = await self._profile(message.reference_profile)
        graph = await self._graph(onnx)
        return Version(
            onnx=onnx,
            signature=_signature(message, graph),
            reference_profile=profile,
            lineage=lineage_to_json(message.lineage),
            max_batch_size=message.max_batch_size or _DEFAULT_BATCH,
            instance_count=message.instance_count or _DEFAULT_INSTANCES,
        )

    def add(
        self, connection: Connection, model: str, version: Version, labels: dict[str, str]
    ) -> Record[Version]:
        """Numbers, signs and writes a version. Raises NotFound for an unknown model."""
        number = store.lock(connection, model).doc.versions + 1
        name = names.version_name(names.parse_model(model), number)
        signature = self.key.sign(manifest(unsigned_to_proto(name, version)))
        signed = replace(version, manifest_signature=signature)
        return store.add_version(connection, model, signed, number, labels)

    async def _stored(
        self, message: types_pb2.Artifact, field: str, *, media_type: str, max_bytes: int
    ) -> Artifact:
        """The artifact as the store has it; what the request says of it must be true."""
        artifact = artifacts.from_proto(message)
        try:
            size = await self.blobs.size(artifact.sha256)
        except NotFound:
            raise NotFound(
                f"{field} is not in the artifact store: {artifact.sha256}",
                field=f"{field}.sha256",
                fix="upload it first",
                reason="ARTIFACT_NOT_FOUND",
            ) from None
        if artifact.size_bytes not in (0, size):
            raise InvalidInput(
                field=f"{field}.size_bytes",
                problem=f"is {artifact.size_bytes}; the stored artifact has {size}",
                fix="leave it out",
            )
        if size > max_bytes:
            raise InvalidInput(
                field=field,
                problem=f"has {size} bytes; at most {max_bytes} are taken",
                fix="make the model smaller",
            )
        return replace(artifact, size_bytes=size, media_type=artifact.media_type or media_type)

    async def _profile(self, message: types_pb2.Artifact) -> Artifact:
        field = "version.reference_profile"
        artifact = await self._stored(
            message, field, media_type=_PROFILE, max_bytes=_MAX_PROFILE_BYTES
        )
        profile = evaluation_pb2.ReferenceProfile()
        try:
            profile.ParseFromString(await self.blobs.get_bytes(artifact))
        except DecodeError:
            profile.Clear()
        if not profile.channels:
            raise InvalidInput(
                field=field,
                problem="is no reference profile",
                fix="give the one that the evaluation made (Evaluation.reference_profile)",
            )
        return artifact

    async def _graph(self, onnx: Artifact) -> Graph:
        field = "version.onnx"
        with tempfile.TemporaryDirectory(prefix="keeptune-inspect-") as folder:
            # A name of our own: the artifact's is for people, and is never a path.
            path = Path(folder) / "model.onnx"
            try:
                await self.blobs.fetch(onnx, path)
            except DataLoss as error:
                raise DataLoss(
                    error.message, field=field, reason=error.reason, fix="upload it anew"
                ) from None
            return await inspection.inspect(path, self.limits, field=field)


def _signature(message: deployment_pb2.ModelVersion, graph: Graph) -> Signature:
    """The signature as given, else as the file carries it; it must fit the graph."""
    field = "version.signature"
    if message.HasField("signature"):
        signature = signature_from_proto(message.signature)
    elif SIGNATURE_KEY in graph.metadata:
        field = "version.onnx"
        signature = signature_from_metadata(graph.metadata[SIGNATURE_KEY], field=field)
        field = f"{field}.metadata.signature"
    else:
        raise InvalidInput(
            field=field,
            problem=f"is not given, and the ONNX file has no metadata {SIGNATURE_KEY}",
            fix="give the signature, or write it into the file's metadata",
        )
    found = problems(signature, graph, field)
    if found:
        raise InvalidInput.many(found, reason="SIGNATURE_MISMATCH")
    return signature
