"""Checkpoints: one trial's weights as safetensors, with all that is needed to use them again.

The file is data only (no pickles). Its header holds, under `keeptune`, a JSON object: trainer and
its version, parameters, signature (in protobuf's JSON form), names of the features, normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from keeptune.runtime import documents
from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.errors import DataLoss
from keeptune.training.convert import signature_from_proto, signature_to_proto
from keeptune.training.model import Scalar
from keeptune.training.trainers.protocol import FittedModel
from keeptune.v1 import types_pb2

MEDIA_TYPE = "application/vnd.safetensors"
_KEY = "keeptune"
_NORMALISATION = "normalise."


@dataclass(frozen=True)
class _Header:
    trainer: str
    trainer_version: str
    parameters: Mapping[str, Scalar]
    signature: dict[str, Any]
    feature_names: tuple[str, ...]
    normalisation: Mapping[str, Any]


def write(
    fitted: FittedModel,
    *,
    trainer: str,
    trainer_version: str,
    artifacts: ArtifactStore,
    filename: str = "checkpoint.safetensors",
) -> Artifact:
    """Stores the checkpoint. Blocks."""
    header = _Header(
        trainer=trainer,
        trainer_version=trainer_version,
        parameters=fitted.parameters,
        signature=json_format.MessageToDict(signature_to_proto(fitted.signature)),
        feature_names=fitted.feature_names,
        normalisation={
            name.removeprefix(_NORMALISATION): np.asarray(array).tolist()
            for name, array in fitted.weights.items()
            if name.startswith(_NORMALISATION)
        },
    )
    weights = {name: np.ascontiguousarray(array) for name, array in fitted.weights.items()}
    data = save(weights, metadata={_KEY: documents.encode(header)})
    return artifacts.put_bytes_sync(data, media_type=MEDIA_TYPE, filename=filename)


def read(artifact: Artifact, artifacts: ArtifactStore, *, trainer: str) -> FittedModel:
    """Loads a checkpoint. Raises DataLoss when it is damaged or another trainer's. Blocks."""
    data = artifacts.get_bytes_sync(artifact)
    try:
        header = documents.structure(_header(data), _Header)
        weights: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataLoss(f"checkpoint {artifact.sha256} cannot be read: {error}") from error
    if header.trainer != trainer:
        raise DataLoss(
            f"checkpoint {artifact.sha256} was made by trainer {header.trainer}, not {trainer}"
        )
    signature = json_format.ParseDict(header.signature, types_pb2.ModelSignature())
    return FittedModel(
        parameters=header.parameters,
        signature=signature_from_proto(signature),
        feature_names=header.feature_names,
        weights=weights,
    )


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
    return found
