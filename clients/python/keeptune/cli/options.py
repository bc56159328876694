"""Options that many commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keeptune.cli.session import Session

C = TypeVar("C", bound=Callable[..., Any])


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).as_json = True


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_note_json,
    help="The answer, or the error, as JSON.",
)


def file_option(what: str, *, required: bool = True) -> Callable[[C], C]:
    """`-f`, the path of a YAML manifest."""
    return click.option(
        "-f",
        "--file",
        required=required,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"YAML manifest of the {what}.",
    )


def list_options(command: C) -> C:
    """`--filter`, `--order-by` and `--limit`."""
    for option in (
        click.option("--limit", type=click.IntRange(min=0), default=0, help="At most; 0 = all."),
        click.option("--order-by", default="", help='E.g. "create_time desc".'),
        click.option("--filter", default="", help='E.g. "state = SUCCEEDED AND labels.team:*".'),
    ):
        command = option(command)
    return command
