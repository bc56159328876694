"""The registry's messages to values and back. Rollouts and hosts: `convert_fleet`."""

from __future__ import annotations

from google.protobuf import json_format

from keeptune.deployment.model import (
    Capture,
    DataType,
    DriftLimits,
    HealthLimits,
    Model,
    Monitoring,
    Signature,
    Task,
    Tensor,
    Version,
)
from keeptune.runtime import artifacts
from keeptune.runtime.convert import from_duration, metadata, to_duration
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.records import Record
from keeptune.v1 import deployment_pb2, monitoring_pb2, types_pb2

SIGNATURE_KEY = "keeptune.signature"
_TASK = "TASK_"
_DATA_TYPE = "DATA_TYPE_"


def monitoring_from_proto(message: monitoring_pb2.Monitoring) -> Monitoring:
    """Every unset limit gets its default; a limit of zero that means "unset" does, too."""
    drift, health, capture = message.drift, message.health, message.capture
    default = Monitoring()
    return Monitoring(
        sampling_rate=(
            message.sampling_rate if message.HasField("sampling_rate") else default.sampling_rate
        ),
        drift=DriftLimits(
            average_run_length=drift.average_run_length or default.drift.average_run_length,
            min_effect=drift.min_effect or default.drift.min_effect,
        ),
        health=HealthLimits(
            max_error_rate=(
                health.max_error_rate
                if health.HasField("max_error_rate")
                else default.health.max_error_rate
            ),
            max_latency=from_duration(health.max_latency),
            max_accuracy_drop=health.max_accuracy_drop or default.health.max_accuracy_drop,
        ),
        capture=Capture(
            enabled=capture.enabled,
            labelled_only=(
                capture.labelled_only
                if capture.HasField("labelled_only")
                else default.capture.labelled_only
            ),
            max_bytes=capture.max_bytes or default.capture.max_bytes,
        ),
    )


def monitoring_to_proto(monitoring: Monitoring) -> monitoring_pb2.Monitoring:
    return monitoring_pb2.Monitoring(
        sampling_rate=monitoring.sampling_rate,
        drift=monitoring_pb2.DriftLimits(
            average_run_length=monitoring.drift.average_run_length,
            min_effect=monitoring.drift.min_effect,
        ),
        health=monitoring_pb2.HealthLimits(
            max_error_rate=monitoring.health.max_error_rate,
            max_latency=to_duration(monitoring.health.max_latency),
            max_accuracy_drop=monitoring.health.max_accuracy_drop,
        ),
        capture=monitoring_pb2.Capture(
            enabled=monitoring.capture.enabled,
            labelled_only=monitoring.capture.labelled_only,
            max_bytes=monitoring.capture.max_bytes,
        ),
    )


def model_from_proto(message: deployment_pb2.Model) -> Model:
    return Model(
        display_name=message.display_name,
        monitoring=monitoring_from_proto(message.monitoring),
        host_selector=dict(message.host_selector),
    )


def model_to_proto(record: Record[Model]) -> deployment_pb2.Model:
    model = record.doc
    return deployment_pb2.Model(
        name=record.name,
        display_name=model.display_name,
        monitoring=monitoring_to_proto(model.monitoring),
        host_selector=model.host_selector,
        labels=dict(record.labels),
        metadata=metadata(record),
        champion=model.champion,
    )


def signature_from_proto(message: types_pb2.ModelSignature) -> Signature:
    return Signature(
        task=Task(types_pb2.Task.Name(message.task).removeprefix(_TASK)),
        inputs=tuple(_tensor_from_proto(each) for each in message.inputs),
        outputs=tuple(_tensor_from_proto(each) for each in message.outputs),
        classes=tuple(message.classes),
    )


def signature_to_proto(signature: Signature) -> types_pb2.ModelSignature:
    return types_pb2.ModelSignature(
        task=types_pb2.Task.Value(_TASK + signature.task),
        inputs=[_tensor_to_proto(each) for each in signature.inputs],
        outputs=[_tensor_to_proto(each) for each in signature.outputs],
        classes=signature.classes,
    )


def signature_from_metadata(text: str, *, field: str) -> Signature:
    """The signature that an ONNX file carries. Raises InvalidInput naming `field`."""
    try:
        return signature_from_proto(json_format.Parse(text, types_pb2.ModelSignature()))
    except (json_format.ParseError, ValueError) as error:
        raise InvalidInput(
            field=field,
            problem=f"has metadata {SIGNATURE_KEY} that is no signature: {str(error)[:200]}",
            fix="mend the metadata, or give the signature",
        ) from error


def _tensor_from_proto(message: types_pb2.TensorSpec) -> Tensor:
    name = types_pb2.DataType.Name(message.data_type).removeprefix(_DATA_TYPE)
    return Tensor(message.name, DataType(name), tuple(message.shape))


def _tensor_to_proto(tensor: Tensor) -> types_pb2.TensorSpec:
    return types_pb2.TensorSpec(
        name=tensor.name,
        data_type=types_pb2.DataType.Value(_DATA_TYPE + tensor.data_type),
        shape=tensor.shape,
    )


def version_to_proto(record: Record[Version]) -> deployment_pb2.ModelVersion:
    message = unsigned_to_proto(record.name, record.doc)
    message.manifest_signature = record.doc.manifest_signature
    message.metadata.CopyFrom(metadata(record))
    message.labels.update(record.labels)
    return message


def unsigned_to_proto(name: str, version: Version) -> deployment_pb2.ModelVersion:
    """The part of a version that is signed, and its lineage."""
    message = deployment_pb2.ModelVersion(
        name=name,
        onnx=artifacts.to_proto(version.onnx),
        signature=signature_to_proto(version.signature),
        lineage=json_format.Parse(version.lineage, deployment_pb2.Lineage()),
        max_batch_size=version.max_batch_size,
        instance_count=version.instance_count,
    )
    if version.reference_profile is not None:
        message.reference_profile.CopyFrom(artifacts.to_proto(version.reference_profile))
    return message


def lineage_to_json(message: deployment_pb2.Lineage) -> str:
    return json_format.MessageToJson(message, indent=None)
