"""`keeptune study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import exchange, insight, output, pareto, verbs
from keeptune.cli.options import file_option, json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient


_FLAGS = ("conditional", "constraints", "parallel", "graphs")


@click.group()
def study() -> None:
    """Searches for good parameters: a space, metrics, a budget, and their trials."""


def _trials(message: Any) -> str:
    counts = message.trial_counts
    ended = counts.completed + counts.pruned + counts.infeasible + counts.failed
    limit = message.budget.max_trials
    shown = f"{ended}/{limit}" if limit else str(ended)
    return f"{shown} ({counts.failed} failed)" if counts.failed else shown


verbs.add_list(
    study,
    "study",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("TRIALS", _trials),
        ("METRICS", lambda m: ",".join(each.name for each in m.metrics)),
        ("ALGORITHM", lambda m: m.chosen_algorithm),
        ("AGE", output.created),
    ],
)
verbs.add_show(study, "study")


def event_line(event: Any) -> str:
    """What an event of a study says to a person."""
    from keeptune.client.results import enum_name

    match event.WhichOneof("event"):
        case "study":
            state = enum_name(event.study)
            text = f"{event.study.name} {output.colour(state, state)} {_trials(event.study)} trials"
            return f"{text}  {event.study.reason}".rstrip()
        case "trial":
            trial = event.trial
            state = enum_name(trial)
            values = output.metrics(trial.final_measurement) or output.parameters(trial.parameters)
            number = trial.name.rpartition("/")[2]
            text = f"trial {number:>4} {output.colour(state, f'{state:10}')} {values}"
            return f"{text}  {trial.reason}".rstrip()
        case "measurement":
            measured = event.measurement
            number = measured.trial.rpartition("/")[2]
            values = output.metrics(measured.measurement)
            return f"trial {number:>4} step {measured.measurement.step:<5} {values}"
        case _:
            return ""


verbs.add_watch(study, "study", event_line)


@study.command()
@file_option("study")
@json_option
@pass_session
def create(session: Session, file: Path) -> None:
    """A new study, as the manifest describes it."""
    from keeptune.client.manifest import load, take_id
    from keeptune.v1 import search_pb2

    wanted = load(file, search_pb2.Study)
    request = search_pb2.CreateStudyRequest(study_id=take_id(wanted, "studies"), study=wanted)

    async def work(client: AsyncClient) -> Any:
        return await client.search.CreateStudy(request)

    verbs.print_created(session, session.run(work))


@study.command()
@click.argument("name", metavar="STUDY")
@click.option("--reason", default="", help="For people.")
@json_option
@pass_session
def stop(session: Session, name: str, reason: str) -> None:
    """No more suggestions; running trials may still complete."""
    from keeptune.v1 import search_pb2

    async def work(client: AsyncClient) -> Any:
        full_name = verbs.full_name("study", name)
        return await client.search.StopStudy(
            search_pb2.StopStudyRequest(name=full_name, reason=reason)
        )

    verbs.print_changed(session, session.run(work))


@study.command()
@click.argument("name", metavar="STUDY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def delete(session: Session, name: str, yes: bool) -> None:
    """Removes the study and its trials for good."""
    from keeptune.v1 import search_pb2

    full_name = verbs.full_name("study", name)
    verbs.confirm(f"Delete {full_name} and all its trials?", yes=yes)

    async def work(client: AsyncClient) -> None:
        await client.search.DeleteStudy(search_pb2.DeleteStudyRequest(name=full_name))

    session.run(work)
    verbs.print_deleted(session, full_name)


@study.command()
@click.argument("name", metavar="STUDY")
@json_option
@pass_session
def best(session: Session, name: str) -> None:
    """The best trial, or the Pareto set when there are several objectives."""
    from keeptune.cli.trial import COLUMNS
    from keeptune.client.resources import as_data
    from keeptune.v1 import search_pb2

    async def work(client: AsyncClient) -> Any:
        request = search_pb2.ListOptimalTrialsRequest(parent=verbs.full_name("study", name))
        return (await client.search.ListOptimalTrials(request)).trials

    trials = session.run(work)
    if session.as_json:
        output.print_json([as_data(trial) for trial in trials])
    elif trials:
        output.print_table(trials, COLUMNS)
    else:
        output.note("no trial has completed")


@study.command()
@click.argument("name", metavar="STUDY")
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG, or a self-contained HTML page.  [default: STUDY.png]",
)
@click.option("--metric", default="", help="[default: the first objective]")
@json_option
@pass_session
def plot(session: Session, name: str, file: Path | None, metric: str) -> None:
    """A picture: the best so far, and how the metric follows each parameter."""
    from keeptune.cli.plot import draw, read

    full_name = verbs.full_name("study", name)
    target = file or Path(f"{full_name.rpartition('/')[2]}.png")

    async def work(client: AsyncClient) -> Any:
        return await read(client, full_name, metric)

    draw(session.run(work), target)
    if session.as_json:
        output.print_json({"file": str(target)})
    else:
        click.echo(target)


exchange.add_import(study)
exchange.add_export(study)
pareto.add_pareto(study)
insight.add_importance(study)
insight.add_dependence(study)
insight.add_outlook(study)


@study.command()
@click.option("--all", "everything", is_flag=True, help="Also those of Nevergrad, one by one.")
@json_option
@pass_session
def algorithms(session: Session, everything: bool) -> None:
    """The algorithms a study can name, and what each can do."""
    from keeptune.client.resources import as_data
    from keeptune.v1 import search_pb2

    async def work(client: AsyncClient) -> Any:
        return (await client.search.ListAlgorithms(search_pb2.ListAlgorithmsRequest())).algorithms

    found = session.run(work)
    if session.as_json:
        output.print_json([as_data(each) for each in found])
        return
    shown = [each for each in found if everything or not each.name.startswith("nevergrad/")]
    output.print_table(
        shown,
        [
            ("NAME", lambda m: m.name),
            *((flag.upper(), _flag(flag)) for flag in _FLAGS),
            ("DESCRIPTION", lambda m: m.description),
        ],
    )
    if len(shown) < len(found):
        output.note(f"and {len(found) - len(shown)} of Nevergrad: --all shows them")


def _flag(name: str) -> Any:
    return lambda message: "yes" if getattr(message, name) else ""
