"""`keeptune serve SERVICE`: one service alone, with a database of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from keeptune.composition.services import SERVICES


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--listen", default="", help="host:port  [default: its address in section services]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KEEPTUNE_DATA_DIR",
    help="Where its files are kept.  [default: ~/.local/share/keeptune]",
)
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="KEEPTUNE_CONFIG",
    help="YAML file; see `keeptune config show`.",
)
def serve(service: str, listen: str, data_dir: Path | None, file: Path | None) -> None:
    """One service alone, wired to the others by a config file and the environment."""
    # Slow to import; `keeptune --help` should not pay for it.
    from keeptune.composition.assembly import read_configuration, run

    configuration = read_configuration(
        (service,), file=file, env=os.environ, data_dir=data_dir, listen=listen
    )
    default = getattr(configuration.services.value, service)

    def ready(address: str) -> None:
        click.echo(f"keeptune serves {service} on {address}", err=True)

    asyncio.run(run((service,), configuration, listen=default, together=False, ready=ready))
