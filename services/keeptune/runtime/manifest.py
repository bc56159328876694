"""The manifest of a model version: what the registry signs and the agent verifies.

It names everything that may reach a serving host: the artifacts by their checksums, the signature
and the sizes. Both sides make it from the same message, so that only the Ed25519 signature of it
travels (`ModelVersion.manifest_signature`).
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from keeptune.v1 import deployment_pb2, types_pb2

_FORMAT = "keeptune.manifest.v1"


def manifest(version: deployment_pb2.ModelVersion) -> bytes:
    """The canonical bytes: JSON in UTF-8 with sorted keys and no spaces."""
    content: dict[str, Any] = {
        "format": _FORMAT,
        "name": version.name,
        "onnx": _artifact(version.onnx),
        "reference_profile": (
            _artifact(version.reference_profile) if version.HasField("reference_profile") else None
        ),
        "signature": json_format.MessageToDict(version.signature, preserving_proto_field_name=True),
        "max_batch_size": version.max_batch_size,
        "instance_count": version.instance_count,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _artifact(artifact: types_pb2.Artifact) -> dict[str, Any]:
    return {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
