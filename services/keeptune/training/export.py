"""From the best checkpoint to the file that is judged and served."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format

from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.errors import Internal
from keeptune.training import checkpoint
from keeptune.training.convert import signature_to_proto
from keeptune.training.engines.messages import Exported
from keeptune.training.model import Signature
from keeptune.training.trainers.protocol import Trainer, TrainingData

MEDIA_TYPE = "application/onnx"
_PARITY_LIMIT = 1e-4
_PARITY_ROWS = 256


def export(
    weights: Artifact,
    *,
    trainer: Trainer,
    trainer_name: str,
    data: TrainingData,
    artifacts: ArtifactStore,
) -> Exported:
    """Writes the ONNX file, proves that it gives what the trainer's model gives, stores it.

    Blocks for seconds. Raises Internal when the two differ, DataLoss for a damaged checkpoint.
    """
    fitted = checkpoint.read(weights, artifacts, trainer=trainer_name)
    rows = np.array(data.validation.x[:_PARITY_ROWS], dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="keeptune-export-") as folder:
        path = Path(folder) / "model.onnx"
        error = trainer.export(fitted, rows, path)
        if not error <= _PARITY_LIMIT:
            raise Internal(
                f"the exported model differs from the trained one by {error:g} "
                f"(limit {_PARITY_LIMIT:g})",
                reason="EXPORT_DIFFERS",
            )
        model = onnx.load(str(path))
        _check(model, fitted.signature)
        _describe(model, fitted.signature, fitted.feature_names)
        onnx.save(model, str(path))
        stored = artifacts.put_file_sync(path, media_type=MEDIA_TYPE)
    return Exported(stored, fitted.signature, error)


def _describe(model: onnx.ModelProto, signature: Signature, feature_names: tuple[str, ...]) -> None:
    """What the file says of itself to those who serve it."""
    properties = {
        "keeptune.signature": json_format.MessageToJson(signature_to_proto(signature), indent=None)
    }
    if feature_names:
        properties["keeptune.feature_names"] = json.dumps(list(feature_names))
    onnx.helper.set_model_props(model, properties)


def _check(model: onnx.ModelProto, signature: Signature) -> None:
    """The promises every served model keeps, whoever's trainer wrote it."""
    onnx.checker.check_model(model, full_check=True)
    names = [each.name for each in model.graph.input], [each.name for each in model.graph.output]
    expected = [each.name for each in signature.inputs], [each.name for each in signature.outputs]
    if names != expected:
        raise Internal(f"the exported model has inputs and outputs {names}, not {expected}")
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise Internal(f"the batch dimension of {value.name!r} is fixed in the exported model")
    if any(each.external_data for each in model.graph.initializer):
        raise Internal("the exported model keeps weights outside its file")
