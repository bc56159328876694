"""Protobuf to model and back, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from keeptune.runtime import artifacts
from keeptune.runtime.convert import from_duration, metadata, to_duration, to_timestamp
from keeptune.runtime.errors import InvalidInput, NotImplementedYet
from keeptune.runtime.names import trainer_name
from keeptune.runtime.records import Record
from keeptune.training.model import (
    Anomaly,
    Measurement,
    Progress,
    Recipe,
    Resources,
    Scalar,
    Signature,
    Task,
    Tensor,
    TrainedModel,
    Training,
)
from keeptune.training.trainers.parameters import FloatParameter, IntParameter, Parameter
from keeptune.training.trainers.protocol import Trainer
from keeptune.v1 import search_pb2, training_pb2, types_pb2

_TASKS = {
    types_pb2.TASK_CLASSIFICATION: Task.CLASSIFICATION,
    types_pb2.TASK_REGRESSION: Task.REGRESSION,
}
_TASK_VALUES = {task: value for value, task in _TASKS.items()}
_LATER = {
    "adversarial": "train with augmentation instead",
    "transfer_from": "train from scratch, or add the old rows to datasets",
    "distill_from": "train on the labels themselves",
    "pruning": "search smaller width and depth",
    "quantization": "deploy the float32 model",
    "privacy": "remove private columns before training",
}
_DEFAULT_FRACTION = 0.2


def training_from_proto(proto: training_pb2.Training) -> Training:
    """The wish as a model. Raises InvalidInput and NotImplementedYet; output fields are ignored."""
    if proto.engine not in ("", "local"):
        raise _engine_error(proto.engine)
    fixed = proto.fixed.parameters if proto.WhichOneof("work") == "fixed" else None
    return Training(
        trainer=proto.trainer,
        task=_task(proto),
        datasets=tuple(proto.datasets),
        study=proto.study,
        fixed=None if fixed is None else parameters_from_proto(fixed, field="training.fixed"),
        validation_datasets=tuple(proto.validation_datasets),
        validation_fraction=proto.validation_fraction or _DEFAULT_FRACTION,
        recipe=_recipe(proto.recipe),
        resources=Resources(cpu=proto.resources.cpu or 1.0, gpu=proto.resources.gpu),
        parallelism=proto.parallelism,
        max_epochs=proto.max_epochs,
        seed=proto.seed,
        labels=dict(proto.labels),
    )


def training_to_proto(record: Record[Training]) -> training_pb2.Training:
    training = record.doc
    proto = training_pb2.Training(
        name=record.name,
        trainer=training.trainer,
        task=_TASK_VALUES[training.task],
        datasets=training.datasets,
        validation_datasets=training.validation_datasets,
        validation_fraction=training.validation_fraction,
        recipe=training_pb2.Recipe(augmentation=training.recipe.augmentation),
        parallelism=training.parallelism,
        resources=training_pb2.TrialResources(
            cpu=training.resources.cpu, gpu=training.resources.gpu
        ),
        engine="local",
        max_epochs=training.max_epochs,
        seed=training.seed,
        labels=training.labels,
        state=training_pb2.TrainingState.Value(f"TRAINING_STATE_{training.state.value}"),
        reason=training.reason,
        next_step=training.next_step,
        metadata=metadata(record),
        end_time=to_timestamp(training.end_time),
        trials_done=training.trials_done,
        best_trial=training.best_trial,
    )
    if training.fixed is None:
        proto.study = training.study
    else:
        proto.fixed.SetInParent()
        for name, value in training.fixed.items():
            proto.fixed.parameters[name].CopyFrom(value_to_proto(value))
    if training.best_measurement is not None:
        proto.best_measurement.CopyFrom(measurement_to_proto(training.best_measurement))
    if training.model is not None:
        proto.model.CopyFrom(_model_to_proto(training.model))
    return proto


def trainer_to_proto(trainer: Trainer) -> training_pb2.Trainer:
    return training_pb2.Trainer(
        name=trainer_name(trainer.name),
        description=trainer.description,
        tasks=[_TASK_VALUES[task] for task in trainer.tasks],
        data_contract=trainer.data_contract,
        recommended_space=types_pb2.SearchSpace(
            parameters=[_spec(parameter) for parameter in trainer.parameters]
        ),
        metrics=[
            search_pb2.Metric(
                name=name,
                goal=types_pb2.GOAL_MAXIMIZE if maximize else types_pb2.GOAL_MINIMIZE,
            )
            for name, maximize in {
                metric.name: metric.maximize
                for task in trainer.tasks
                for metric in trainer.metrics(task)
            }.items()
        ],
        version=trainer.version,
    )


def parameters_from_proto(
    parameters: Mapping[str, types_pb2.ParameterValue], *, field: str
) -> dict[str, Scalar]:
    """Raises InvalidInput for a value that is unset or a graph."""
    found: dict[str, Scalar] = {}
    for name, value in parameters.items():
        which = value.WhichOneof("value")
        if which is None or which == "graph_value":
            raise InvalidInput(
                field=f"{field}.parameters[{name!r}]",
                problem="has no value"
                if which is None
                else "is a graph, which no trainer builds yet",
                fix="give a number, a string or a bool",
            )
        found[name] = getattr(value, which)
    return found


def value_to_proto(value: Scalar) -> types_pb2.ParameterValue:
    if isinstance(value, bool):
        return types_pb2.ParameterValue(bool_value=value)
    if isinstance(value, int):
        return types_pb2.ParameterValue(int_value=value)
    if isinstance(value, float):
        return types_pb2.ParameterValue(double_value=value)
    return types_pb2.ParameterValue(string_value=value)


def measurement_to_proto(measurement: Measurement) -> types_pb2.Measurement:
    return types_pb2.Measurement(
        step=measurement.step,
        metrics=measurement.metrics,
        elapsed=to_duration(timedelta(seconds=measurement.elapsed)),
    )


def measurement_from_proto(proto: types_pb2.Measurement) -> Measurement:
    elapsed = from_duration(proto.elapsed)
    return Measurement(proto.step, dict(proto.metrics), elapsed.total_seconds() if elapsed else 0.0)


def signature_to_proto(signature: Signature) -> types_pb2.ModelSignature:
    return types_pb2.ModelSignature(
        task=_TASK_VALUES[signature.task],
        inputs=[_tensor_to_proto(tensor) for tensor in signature.inputs],
        outputs=[_tensor_to_proto(tensor) for tensor in signature.outputs],
        classes=signature.classes,
    )


def signature_from_proto(proto: types_pb2.ModelSignature) -> Signature:
    return Signature(
        task=_TASKS[proto.task],
        inputs=tuple(Tensor(each.name, tuple(each.shape)) for each in proto.inputs),
        outputs=tuple(Tensor(each.name, tuple(each.shape)) for each in proto.outputs),
        classes=tuple(proto.classes),
    )


def progress_to_proto(progress: Progress) -> training_pb2.TrainingProgress:
    return training_pb2.TrainingProgress(
        trial=progress.trial,
        measurement=measurement_to_proto(progress.measurement),
        worker=progress.worker,
    )


def anomaly_to_proto(anomaly: Anomaly) -> training_pb2.TrainingAnomaly:
    return training_pb2.TrainingAnomaly(
        trial=anomaly.trial,
        kind=training_pb2.AnomalyKind.Value(f"ANOMALY_KIND_{anomaly.kind.value}"),
        step=anomaly.step,
        evidence=anomaly.evidence,
        action=anomaly.action,
    )


def _task(proto: training_pb2.Training) -> Task:
    if proto.task not in _TASKS:
        raise InvalidInput(
            field="training.task",
            problem="is not set",
            fix="set TASK_CLASSIFICATION or TASK_REGRESSION",
        )
    return _TASKS[proto.task]


def _recipe(proto: training_pb2.Recipe) -> Recipe:
    for field, instead in _LATER.items():
        if getattr(proto, field):
            raise NotImplementedYet(
                f"recipe.{field} comes in a later version",
                field=f"training.recipe.{field}",
                fix=f"leave it out; meanwhile {instead}",
            )
    return Recipe(augmentation=proto.augmentation)


def _engine_error(engine: str) -> Exception:
    if engine == "ray":
        return NotImplementedYet(
            "the Ray engine comes in a later version",
            field="training.engine",
            fix="leave engine empty: trials run in processes on the service's host",
        )
    return InvalidInput(
        field="training.engine", problem=f"is {engine!r}", fix='leave it empty, or give "local"'
    )


def _model_to_proto(model: TrainedModel) -> training_pb2.TrainedModel:
    return training_pb2.TrainedModel(
        onnx=artifacts.to_proto(model.onnx),
        weights=artifacts.to_proto(model.weights),
        signature=signature_to_proto(model.signature),
    )


def _tensor_to_proto(tensor: Tensor) -> types_pb2.TensorSpec:
    return types_pb2.TensorSpec(
        name=tensor.name, data_type=types_pb2.DATA_TYPE_FLOAT32, shape=tensor.shape
    )


def _spec(parameter: Parameter) -> types_pb2.ParameterSpec:
    spec = types_pb2.ParameterSpec(name=parameter.name)
    if isinstance(parameter, FloatParameter):
        spec.float_range.CopyFrom(
            types_pb2.FloatRange(min=parameter.min, max=parameter.max, scale=_scale(parameter.log))
        )
    elif isinstance(parameter, IntParameter):
        spec.int_range.CopyFrom(
            types_pb2.IntRange(min=parameter.min, max=parameter.max, scale=_scale(parameter.log))
        )
    else:
        spec.categories.values.extend(value_to_proto(value) for value in parameter.values)
    return spec


def _scale(log: bool) -> types_pb2.Scale.ValueType:
    return types_pb2.SCALE_LOG if log else types_pb2.SCALE_LINEAR
