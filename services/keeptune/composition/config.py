"""`keeptune config`: what is set, and where each value comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click


@click.group()
def config() -> None:
    """Settings of the services."""


@config.command()
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="KEEPTUNE_CONFIG",
    help="YAML file to read.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(file: Path | None, as_json: bool) -> None:
    """Every setting, its value, and its origin: default, file and line, or variable."""
    from keeptune.composition.assembly import read_configuration
    from keeptune.composition.services import SERVICES

    configuration = read_configuration(SERVICES, file=file, env=os.environ)
    rows = [
        {"key": f"{section}.{key}", "value": _value(loaded.value, key), "origin": origin}
        for section, loaded in configuration.all().items()
        for key, origin in loaded.origins.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["key"]) for row in rows)
    values = [json.dumps(row["value"]) for row in rows]
    room = min(60, max(len(value) for value in values))
    for row, value in zip(rows, values, strict=True):
        click.echo(f"{row['key']:{width}}  {value:{room}}  {row['origin']}")


def _value(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = getattr(settings, part)
    return str(settings) if isinstance(settings, Path) else settings
