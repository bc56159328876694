"""`keeptune rollout` and `keeptune host`."""

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
def rollout() -> None:
    """Bringing a version to the serving hosts, in waves, and back if it must be."""


def _hosts(message: Any) -> str:
    from collections import Counter

    from keeptune.client.results import enum_name

    stages = Counter(enum_name(host, "stage") for host in message.hosts)
    return ",".join(f"{count} {stage}" for stage, count in stages.items())


verbs.add_list(
    rollout,
    "rollout",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("VERSION", lambda m: m.version),
        ("WAVE", lambda m: str(m.wave) if m.wave else ""),
        ("HOSTS", _hosts),
        ("AGE", output.created),
        ("REASON", lambda m: m.reason),
    ],
)
verbs.add_show(rollout, "rollout")


def _event_line(event: Any) -> str:
    from keeptune.client.results import enum_name

    state = enum_name(event.rollout)
    text = f"{event.rollout.name} {output.colour(state, state)} {_hosts(event.rollout)}"
    return f"{text}  {event.rollout.reason}".rstrip()


verbs.add_watch(rollout, "rollout", _event_line)


@rollout.command()
@click.option("--version", default="", help="MODEL/NUMBER to bring out.")
@click.option("--evaluation", default="", help="Whose verdict passed it.")
@file_option("rollout, with what the options do not say", required=False)
@json_option
@pass_session
def create(session: Session, version: str, evaluation: str, file: Path | None) -> None:
    """A new rollout, from the options, a manifest or both."""
    from keeptune.client.manifest import load, take_id
    from keeptune.v1 import deployment_pb2

    wanted = load(file, deployment_pb2.Rollout) if file else deployment_pb2.Rollout()
    if version:
        wanted.version = verbs.full_name("version", version)
    if evaluation:
        wanted.evaluation = verbs.full_name("evaluation", evaluation)
    if not wanted.version:
        raise click.UsageError("give --version and --evaluation, or a manifest with -f")
    request = deployment_pb2.CreateRolloutRequest(
        rollout_id=take_id(wanted, "rollouts"), rollout=wanted
    )

    async def work(client: AsyncClient) -> Any:
        return await client.deployment.CreateRollout(request)

    verbs.print_created(session, session.run(work))


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@json_option
@pass_session
def pause(session: Session, name: str) -> None:
    """Stays where it is until it is resumed; hosts still go back by themselves."""
    from keeptune.v1 import deployment_pb2

    async def work(client: AsyncClient) -> Any:
        request = deployment_pb2.PauseRolloutRequest(name=verbs.full_name("rollout", name))
        return await client.deployment.PauseRollout(request)

    verbs.print_changed(session, session.run(work))


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@json_option
@pass_session
def resume(session: Session, name: str) -> None:
    """Goes on after a pause."""
    from keeptune.v1 import deployment_pb2

    async def work(client: AsyncClient) -> Any:
        request = deployment_pb2.ResumeRolloutRequest(name=verbs.full_name("rollout", name))
        return await client.deployment.ResumeRollout(request)

    verbs.print_changed(session, session.run(work))


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@click.option("--reason", default="", help="For people.")
@json_option
@pass_session
def rollback(session: Session, name: str, reason: str) -> None:
    """Back to the version that served before, on every host."""
    from keeptune.v1 import deployment_pb2

    async def work(client: AsyncClient) -> Any:
        request = deployment_pb2.RollBackRequest(
            name=verbs.full_name("rollout", name), reason=reason
        )
        return await client.deployment.RollBack(request)

    verbs.print_changed(session, session.run(work))


@click.group()
def host() -> None:
    """The serving hosts, as their agents last described them."""


def _served(message: Any) -> str:
    return ",".join(
        f"{each.serving.removeprefix('models/').replace('/versions/', ':')}"
        f"{'' if each.healthy else ' (unhealthy)'}"
        for each in message.models
        if each.serving
    )


verbs.add_list(
    host,
    "host",
    [
        ("NAME", lambda m: m.name),
        ("STATE", output.state()),
        ("SEEN", lambda m: output.age(m.last_seen_time)),
        ("TRITON", lambda m: f"{m.info.triton_version}{'' if m.info.triton_ready else ' (down)'}"),
        ("AGENT", lambda m: m.info.agent_version),
        ("SERVES", _served),
        ("REASON", lambda m: m.reason),
    ],
)
verbs.add_show(host, "host")
