"""`keeptune dev`: the whole control plane in one process, its data kept in one folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

_LISTEN = "127.0.0.1:7310"


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KEEPTUNE_DATA_DIR",
    help="Where everything is kept.  [default: ~/.local/share/keeptune]",
)
@click.option("--listen", default="", help=f"host:port; port 0 = any.  [default: {_LISTEN}]")
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="KEEPTUNE_CONFIG",
    help="YAML file; see `keeptune config show`.",
)
def dev(data_dir: Path | None, listen: str, file: Path | None) -> None:
    """Everything on one machine: search, training, evaluation, deployment and retuning.

    Listens on the loopback, makes its own credentials, keeps its data over restarts and may be
    killed at any moment.
    """
    # Slow to import; `keeptune --help` should not pay for it.
    from keeptune.composition.assembly import read_configuration, run, write_endpoint
    from keeptune.composition.services import SERVICES

    configuration = read_configuration(
        SERVICES, file=file, env=os.environ, data_dir=data_dir, listen=listen
    )
    folder = configuration.platform.value.data_dir.expanduser().absolute()

    def ready(address: str) -> None:
        write_endpoint(folder, address)
        click.echo(_banner(folder, address), err=True)

    asyncio.run(run(SERVICES, configuration, listen=_LISTEN, together=True, ready=ready))


def _banner(folder: Path, address: str) -> str:
    return "\n".join(
        (
            "",
            f"  keeptune serves search, training, evaluation, deployment and retuning on {address}",
            f"  data         {folder}",
            f"  credentials  {folder / 'credentials'}",
            "",
            "  next, in another terminal: keeptune doctor; on a serving host, beside Triton,",
            "  keeptune agent run --config agent.yaml; then keeptune policy apply -f policy.yaml.",
            "  Runs until Ctrl-C.",
            "",
        )
    )
