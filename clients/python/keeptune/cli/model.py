"""`keeptune model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import output, verbs
from keeptune.cli.options import file_option, json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.v1 import deployment_pb2


@click.group()
def model() -> None:
    """The registry: models by the name that Triton serves them by, and their versions."""


verbs.add_list(
    model,
    "model",
    [
        ("NAME", lambda m: m.name),
        ("CHAMPION", lambda m: m.champion),
        ("HOST SELECTOR", lambda m: _pairs(m.host_selector)),
        ("AGE", output.created),
    ],
)
verbs.add_show(model, "model")


def _pairs(labels: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _size(message: Any) -> str:
    return f"{message.onnx.size_bytes / 1e6:.2f} MB" if message.onnx.size_bytes else ""


verbs.add_list(
    model,
    "version",
    [
        ("NAME", lambda m: m.name),
        ("SIZE", _size),
        ("TRAINING", lambda m: m.lineage.training),
        ("EVALUATION", lambda m: m.lineage.evaluation),
        ("AGE", output.created),
    ],
    name="versions",
)
verbs.add_show(model, "version", name="version")


@model.command()
@click.argument("name", metavar="MODEL", required=False, default="")
@file_option("model", required=False)
@json_option
@pass_session
def create(session: Session, name: str, file: Path | None) -> None:
    """A new model: by its name alone, or as a manifest describes it."""
    from keeptune.client.manifest import load, take_id
    from keeptune.v1 import deployment_pb2

    wanted = load(file, deployment_pb2.Model) if file else deployment_pb2.Model()
    if name:
        wanted.name = name
    if not wanted.name:
        raise click.UsageError("give the name of the model, or a manifest with -f")
    request = deployment_pb2.CreateModelRequest(model_id=take_id(wanted, "models"), model=wanted)

    async def work(client: AsyncClient) -> Any:
        return await client.deployment.CreateModel(request)

    verbs.print_created(session, session.run(work))


@model.command()
@click.argument("name", metavar="MODEL")
@click.option("--training", default="", help="Register the model of this training.")
@click.option("--evaluation", default="", help="Its verdict, and the reference profile it made.")
@file_option("model version, with what the options do not say", required=False)
@json_option
@pass_session
def register(
    session: Session, name: str, training: str, evaluation: str, file: Path | None
) -> None:
    """A new version of a model, from a training and its evaluation or from a manifest."""
    from keeptune.client.manifest import load
    from keeptune.v1 import deployment_pb2

    if not training and not file:
        raise click.UsageError("give --training, or a manifest with -f")
    version = load(file, deployment_pb2.ModelVersion) if file else deployment_pb2.ModelVersion()

    async def work(client: AsyncClient) -> Any:
        if training:
            await _take_training(client, version, training)
        if evaluation:
            await _take_evaluation(client, version, evaluation)
        return await client.deployment.CreateModelVersion(
            deployment_pb2.CreateModelVersionRequest(
                parent=verbs.full_name("model", name), version=version
            )
        )

    verbs.print_created(session, session.run(work))


async def _take_training(
    client: AsyncClient, version: deployment_pb2.ModelVersion, name: str
) -> None:
    from keeptune.runtime.errors import FailedPrecondition
    from keeptune.v1 import training_pb2

    found = await client.training.GetTraining(
        training_pb2.GetTrainingRequest(name=verbs.full_name("training", name))
    )
    if not found.HasField("model"):
        raise FailedPrecondition(
            f"{found.name} has no model yet", fix=f"keeptune training watch {found.name}"
        )
    version.onnx.CopyFrom(found.model.onnx)
    version.signature.CopyFrom(found.model.signature)
    version.lineage.training = found.name
    version.lineage.study = found.study
    version.lineage.trial = found.best_trial
    del version.lineage.datasets[:]
    version.lineage.datasets.extend(found.datasets)


async def _take_evaluation(
    client: AsyncClient, version: deployment_pb2.ModelVersion, name: str
) -> None:
    from keeptune.v1 import evaluation_pb2

    found = await client.evaluation.GetEvaluation(
        evaluation_pb2.GetEvaluationRequest(name=verbs.full_name("evaluation", name))
    )
    version.lineage.evaluation = found.name
    if found.HasField("reference_profile"):
        version.reference_profile.CopyFrom(found.reference_profile)
