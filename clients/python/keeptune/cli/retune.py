"""`keeptune retune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import failures, output, verbs
from keeptune.cli.options import json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient


@click.group()
def retune() -> None:
    """Passes of the loop: what set each off, what it made, and how it ended."""


verbs.add_list(
    retune,
    "retune",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("TRIGGER", output.state("trigger")),
        ("MODEL", lambda m: m.model),
        ("VERSION", lambda m: m.version.rpartition("/")[2]),
        ("AGE", output.created),
        ("REASON", lambda m: m.reason),
    ],
)
verbs.add_show(retune, "retune")


def _line(event: Any) -> str:
    from keeptune.client.results import enum_name

    state = enum_name(event.retune)
    return f"{event.retune.name} {output.colour(state, state)}  {event.retune.reason}".rstrip()


@retune.command()
@click.argument("name", metavar="[RETUNE]", required=False, default="")
@click.option("--policy", default="", help="Those of a policy, for ever; else of all.")
@click.option("--revision", default=0, help="Only what came after this revision.")
@json_option
@pass_session
def watch(session: Session, name: str, policy: str, revision: int) -> None:
    """What happens to retunes: of all, of a policy, or of one until it has ended."""
    wanted = verbs.full_name("retune", name) if name else ""

    async def work(client: AsyncClient) -> str:
        of = verbs.full_name("policy", policy) if policy else ""
        if wanted:
            of = (await client.retune(wanted)).policy
        lines = verbs.EventLines(_line, as_json=session.as_json)
        async for event in client.retune_events(of, revision=revision):
            if wanted not in ("", event.retune.name):
                continue
            lines.show(event)
            ended = verbs.end_of(event, "retune")
            if wanted and ended:
                return ended
        return ""

    verbs.finish(session.run(work))


@retune.command()
@click.argument("policy", metavar="POLICY")
@click.option("--note", default="", help="Why, for people.")
@click.option("--force", is_flag=True, help="Ignore the cooldown.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, with progress.")
@json_option
@pass_session
def request(session: Session, policy: str, note: str, force: bool, wait: bool) -> None:
    """Ask for a retune, or join the one under way."""
    from keeptune.client.results import enum_name
    from keeptune.v1 import retuning_pb2

    asked = retuning_pb2.RequestRetuneRequest(
        policy=verbs.full_name("policy", policy), note=note, force=force
    )

    async def work(client: AsyncClient) -> tuple[Any, Any]:
        from keeptune.cli.following import follow_retune

        answer = await client.retuning.RequestRetune(asked)
        output.note(f"{enum_name(answer, 'decision')}: {answer.reason}")
        if not (wait and answer.HasField("retune")):
            return answer, None
        return answer, await follow_retune(client, answer.retune.name)

    answer, ended = session.run(work)
    if ended is not None:
        from keeptune.cli.following import say_end

        say_end(ended)
    if session.as_json:
        output.print_message(answer, as_json=True)
    elif answer.HasField("retune"):
        click.echo(answer.retune.name)
    if not answer.HasField("retune"):
        output.note(f"try again in {answer.retry_after.seconds} s, or with --force")
        raise click.exceptions.Exit(failures.PRECONDITION)
    if ended is not None and not ended.succeeded:
        raise click.exceptions.Exit(failures.FAILED)


@retune.command()
@click.argument("name", metavar="RETUNE")
@click.option("--note", default="", help="For people.")
@json_option
@pass_session
def approve(session: Session, name: str, note: str) -> None:
    """Lets a retune that awaits it roll out."""
    from keeptune.v1 import retuning_pb2

    async def work(client: AsyncClient) -> Any:
        wanted = verbs.full_name("retune", name)
        return await client.retuning.ApproveRetune(
            retuning_pb2.ApproveRetuneRequest(name=wanted, note=note)
        )

    verbs.print_changed(session, session.run(work))


@retune.command()
@click.argument("name", metavar="RETUNE")
@click.option("--reason", default="", help="For people.")
@json_option
@pass_session
def cancel(session: Session, name: str, reason: str) -> None:
    """Ends it; what serves goes on serving."""
    from keeptune.v1 import retuning_pb2

    async def work(client: AsyncClient) -> Any:
        wanted = verbs.full_name("retune", name)
        return await client.retuning.CancelRetune(
            retuning_pb2.CancelRetuneRequest(name=wanted, reason=reason)
        )

    verbs.print_changed(session, session.run(work))
