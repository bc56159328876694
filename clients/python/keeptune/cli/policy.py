"""`keeptune policy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import failures, output, verbs
from keeptune.cli.options import file_option, json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient


@click.group()
def policy() -> None:
    """What is wanted for a model: data, search, gate, rollout, watching."""


def remark(message: Any) -> str:
    """A column's text: what stands in the way of a policy."""
    if message.sync_problem:
        return f"not in force: {message.sync_problem}"
    if message.HasField("last_refusal"):
        refused = f"{output.age(message.last_refusal.time)} ago"
        return f"retune refused {refused}: {message.last_refusal.reason}"
    if message.HasField("cooldown_end_time"):
        return f"in cooldown until {output.clock_time(message.cooldown_end_time)}"
    return ""


verbs.add_list(
    policy,
    "policy",
    [
        ("NAME", lambda m: m.name),
        ("MODEL", lambda m: m.model),
        ("TRAINER", lambda m: m.trainer),
        ("LAST RETUNE", lambda m: m.last_retune),
        ("AGE", output.created),
        ("REMARK", lambda m: remark(m)),
    ],
)
verbs.add_show(policy, "policy")


@policy.command()
@file_option("policy")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--wait", is_flag=True, help="Wait for the retune that it starts, with progress.")
@json_option
@pass_session
def apply(session: Session, file: Path, dry_run: bool, wait: bool) -> None:
    """Make it so. Applying a policy for the first time tunes and deploys version 1.

    With --wait the exit status is 1 if the retune did not succeed.
    """
    from keeptune.client.async_client import policy_request

    if dry_run and wait:
        raise click.UsageError("with --dry-run there is nothing to wait for")
    request = policy_request(file, dry_run=dry_run)

    async def work(client: AsyncClient) -> tuple[Any, Any]:
        from keeptune.cli.following import follow_retune

        applied = await client.retuning.ApplyPolicy(request)
        output.note(_remark(applied, dry_run=dry_run))
        if not (wait and applied.last_retune):
            return applied, None
        return applied, await follow_retune(client, applied.last_retune)

    applied, ended = session.run(work)
    if ended is not None:
        from keeptune.cli.following import say_end

        say_end(ended)
    if session.as_json:
        output.print_message(applied, as_json=True)
    else:
        click.echo(applied.name)
    if ended is not None and not ended.succeeded:
        raise click.exceptions.Exit(failures.FAILED)


def _remark(applied: Any, *, dry_run: bool) -> str:
    if dry_run:
        return "valid; nothing was changed"
    if applied.last_retune:
        return f"{applied.name} applied; see keeptune retune show {applied.last_retune}"
    return f"{applied.name} applied; {applied.model} serves already, so nothing is retuned now"


@policy.command()
@click.argument("name", metavar="POLICY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def delete(session: Session, name: str, yes: bool) -> None:
    """The model is no longer kept in tune; it goes on serving."""
    from keeptune.v1 import retuning_pb2

    full_name = verbs.full_name("policy", name)
    verbs.confirm(f"Delete {full_name}?", yes=yes)

    async def work(client: AsyncClient) -> None:
        await client.retuning.DeletePolicy(retuning_pb2.DeletePolicyRequest(name=full_name))

    session.run(work)
    verbs.print_deleted(session, full_name)
