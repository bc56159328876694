"""`keeptune evaluation`."""

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
def evaluation() -> None:
    """Whether a model is good, and better than the one that serves: metrics and a verdict."""


def _verdict(message: Any) -> str:
    return output.state("outcome")(message.verdict)


verbs.add_list(
    evaluation,
    "evaluation",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("VERDICT", _verdict),
        ("AGE", output.created),
        ("REASON", lambda m: m.verdict.reason or m.reason),
    ],
)
verbs.add_show(evaluation, "evaluation")


def _event_line(event: Any) -> str:
    from keeptune.client.results import enum_name

    state = enum_name(event.evaluation)
    lines = [f"{event.evaluation.name} {output.colour(state, state)}  {event.evaluation.reason}"]
    if event.evaluation.HasField("verdict"):
        outcome = _verdict(event.evaluation)
        lines.append(f"  {output.colour(outcome, outcome)}: {event.evaluation.verdict.reason}")
        lines += [
            f"  {'ok  ' if rule.passed else 'fail'} {rule.rule.metric} {rule.evidence}"
            for rule in event.evaluation.verdict.rules
        ]
    return "\n".join(line.rstrip() for line in lines)


verbs.add_watch(evaluation, "evaluation", _event_line)


@evaluation.command()
@file_option("evaluation")
@click.option("--training", default="", help="Judge the model of this training.")
@json_option
@pass_session
def create(session: Session, file: Path, training: str) -> None:
    """A new evaluation, as the manifest describes it."""
    from keeptune.client.manifest import load, take_id
    from keeptune.v1 import evaluation_pb2, training_pb2

    wanted = load(file, evaluation_pb2.Evaluation)
    request = evaluation_pb2.CreateEvaluationRequest(
        evaluation_id=take_id(wanted, "evaluations"), evaluation=wanted
    )

    async def work(client: AsyncClient) -> Any:
        if training:
            trained = await client.training.GetTraining(
                training_pb2.GetTrainingRequest(name=verbs.full_name("training", training))
            )
            request.evaluation.candidate.CopyFrom(trained.model.onnx)
        return await client.evaluation.CreateEvaluation(request)

    verbs.print_created(session, session.run(work))
