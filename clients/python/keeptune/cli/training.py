"""`keeptune trainer` and `keeptune training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import output, verbs
from keeptune.cli.options import file_option, json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient


@click.group()
def trainer() -> None:
    """What can be trained: installed trainers, their data and their parameters."""


def _tasks(message: Any) -> str:
    from keeptune.v1 import types_pb2

    return ",".join(types_pb2.Task.Name(t).removeprefix("TASK_").lower() for t in message.tasks)


verbs.add_list(
    trainer,
    "trainer",
    [
        ("NAME", lambda m: m.name),
        ("TASKS", _tasks),
        ("METRICS", lambda m: ",".join(each.name for each in m.metrics)),
        ("VERSION", lambda m: m.version),
        ("DESCRIPTION", lambda m: m.description),
    ],
)
verbs.add_show(trainer, "trainer")


@click.group()
def training() -> None:
    """Runs that turn parameters, or a whole study, into a model."""


verbs.add_list(
    training,
    "training",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("TRAINER", lambda m: m.trainer),
        ("STUDY", lambda m: m.study),
        ("TRIALS", lambda m: str(m.trials_done)),
        ("BEST", lambda m: output.metrics(m.best_measurement)),
        ("AGE", output.created),
        ("REASON", lambda m: m.reason),
    ],
)
verbs.add_show(training, "training")


def _event_line(event: Any) -> str:
    from keeptune.client.results import enum_name

    match event.WhichOneof("event"):
        case "training":
            state = enum_name(event.training)
            best = output.metrics(event.training.best_measurement)
            text = f"{event.training.name} {output.colour(state, state)}"
            return f"{text} {event.training.trials_done} trials {best}  {event.training.reason}"
        case "progress":
            measured = event.progress.measurement
            values = output.metrics(measured)
            return f"{event.progress.trial} epoch {measured.step:<4} {values}"
        case "anomaly":
            anomaly = event.anomaly
            kind = output.colour("FAILED", enum_name(anomaly, "kind"))
            return f"{anomaly.trial} {kind} at {anomaly.step}: {anomaly.evidence}; {anomaly.action}"
        case _:
            return ""


verbs.add_watch(training, "training", _event_line)


@training.command()
@file_option("training")
@json_option
@pass_session
def create(session: Session, file: Path) -> None:
    """A new training, as the manifest describes it."""
    from keeptune.client.manifest import load, take_id
    from keeptune.v1 import training_pb2

    wanted = load(file, training_pb2.Training)
    request = training_pb2.CreateTrainingRequest(
        training_id=take_id(wanted, "trainings"), training=wanted
    )

    async def work(client: AsyncClient) -> Any:
        return await client.training.CreateTraining(request)

    verbs.print_created(session, session.run(work))


@training.command()
@click.argument("name", metavar="TRAINING")
@json_option
@pass_session
def cancel(session: Session, name: str) -> None:
    """Ends it; its study keeps the trials that were done."""
    from keeptune.v1 import training_pb2

    async def work(client: AsyncClient) -> Any:
        return await client.training.CancelTraining(
            training_pb2.CancelTrainingRequest(name=verbs.full_name("training", name))
        )

    verbs.print_changed(session, session.run(work))
