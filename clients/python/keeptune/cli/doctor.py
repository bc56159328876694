"""`keeptune doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from keeptune.cli import failures, output
from keeptune.cli.options import json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.cli.checks import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@json_option
@pass_session
def doctor(session: Session) -> None:
    """Whether everything is as it should be, and what to do where it is not.

    Looks at this machine, at the services, and at what the file of --config names: the artifact
    store, Triton, the agent. The exit status is 1 if anything failed; a warning is no failure.
    """
    import asyncio

    from keeptune.cli.checks import machine, services, serving

    checks = [
        *machine.check(session),
        *asyncio.run(services.check(session)),
        *asyncio.run(serving.check(session)),
    ]
    healthy = not any(check.status == "fail" for check in checks)
    if session.as_json:
        output.print_json({"healthy": healthy, "checks": [vars(check) for check in checks]})
    else:
        _print(checks)
    if not healthy:
        raise click.exceptions.Exit(failures.FAILED)


def _print(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = f"{check.status:4}"
        if sys.stdout.isatty():
            mark = click.style(mark, fg=_COLOURS[check.status], bold=check.status != "ok")
        click.echo(f"{mark}  {check.name:{width}}  {check.found}")
        if check.next_step:
            click.echo(f"{'':4}  {'':{width}}  -> {check.next_step}")
