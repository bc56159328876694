"""`keeptune policy`."""

from __future__ import annotations

import uuid
from pathlib import Path

import click

from keeptune.cli.session import Session, as_data, pass_session, print_json


@click.group()
def policy() -> None:
    """What is wanted for a model: data, search, gate, rollout, watching."""


@policy.command()
@click.option(
    "-f",
    "--file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML manifest of the policy.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def apply(session: Session, file: Path, dry_run: bool, as_json: bool) -> None:
    """Make it so. Applying a policy for the first time tunes and deploys version 1."""
    from keeptune.client.manifest import load
    from keeptune.runtime.errors import InvalidInput, typed_errors
    from keeptune.v1 import retuning_pb2, retuning_pb2_grpc

    wanted = load(file, retuning_pb2.Policy)
    policy_id = wanted.name.removeprefix("policies/")
    if not policy_id:
        raise InvalidInput(field="name", problem="is missing", fix="begin with `name: digits`")
    wanted.name = f"policies/{policy_id}"
    stub = retuning_pb2_grpc.RetuningServiceStub(session.channel("retuning"))
    with typed_errors():
        applied = stub.ApplyPolicy(
            retuning_pb2.ApplyPolicyRequest(
                request_id=str(uuid.uuid4()),
                policy_id=policy_id,
                policy=wanted,
                validate_only=dry_run,
            )
        )
    if session.as_json or as_json:
        print_json(as_data(applied))
        return
    click.echo(applied.name)
    if dry_run:
        click.echo("valid; nothing was changed", err=True)
    elif applied.last_retune:
        click.echo(f"retune {applied.last_retune}", err=True)
