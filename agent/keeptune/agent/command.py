"""`keeptune agent`: run the agent, let a host join, ask it how it is, run a Triton."""

# Only click here: the command line of everything loads this file, the agent itself is heavy.
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keeptune.agent.config import AgentSettings

_CONFIG = click.option(
    "--config",
    envvar="KEEPTUNE_CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with a section `agent`; KEEPTUNE_AGENT__<KEY> overrides it.",
)
_DATA_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="What it keeps.")
_HOST = click.option("--host", help="This host's id.")
_DEPLOYMENT = click.option("--deployment", help="host:port of the deployment service.")


def _existing_environment(_: click.Context, __: click.Parameter, folder: Path) -> Path:
    if not folder.is_dir():
        raise click.BadParameter(
            f"there is no folder {folder}: `make setup` builds it as .serving-host in keeptune's "
            "clone; give its path with --environment"
        )
    return folder


@click.group()
def agent() -> None:
    """The agent on a serving host: samples, watches, swaps models, goes back."""


@agent.command()
@_CONFIG
@_HOST
@_DATA_DIR
@_DEPLOYMENT
@click.option("--retuning", help="host:port of the retuning service; default: the deployment's.")
@click.option("--listen", help="host:port for applications on this host.")
@click.option(
    "--tokens-file",
    type=click.Path(path_type=Path),
    help="The control plane's tokens file, when it runs on this machine.",
)
@click.option("--model-repository", type=click.Path(path_type=Path), help="Triton's.")
@click.option(
    "--triton-state-dir",
    type=click.Path(path_type=Path),
    help="State folder of `keeptune agent triton`.",
)
def run(config: Path | None, **flags: Any) -> None:
    """Run the agent until it is stopped."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _interruptible(_run, _settings(config, flags))


@agent.command()
@_CONFIG
@_HOST
@_DATA_DIR
@_DEPLOYMENT
@click.option(
    "--join-token-file",
    type=click.File(),
    required=True,
    help="File with the control plane's join token; - reads it from standard input.",
)
def join(config: Path | None, join_token_file: Any, **flags: Any) -> None:
    """Trade a join token for this host's own credential."""
    _interruptible(_join, _settings(config, flags), join_token_file.read().strip())


@agent.command()
@_CONFIG
@_DATA_DIR
@click.option("--listen", help="host:port of the agent.")
@click.option("--json", "as_json", is_flag=True, help="The whole answer, for programs.")
def status(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Ask the agent on this host how it is."""
    _interruptible(_status, _settings(config, flags), as_json)


@agent.command()
@click.option(
    "--environment",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".serving-host"),
    show_default=True,
    callback=_existing_environment,
    help="The serving host's Python environment, with Triton in it.",
)
@click.option("--model-repository", type=click.Path(path_type=Path), required=True)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Its endpoint, logs and sampling folder; the agent's agent.triton.state_dir.",
)
@click.option("--grpc-port", type=int, default=0, help="0: a free one, kept over restarts.")
@click.option("--http-port", type=int, default=0)
@click.option("--metrics-port", type=int, default=0)
def triton(
    environment: Path,
    model_repository: Path,
    state_dir: Path,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
) -> None:
    """Run a supervised Triton, for a development host."""
    from keeptune.agent.tritonserver import TritonOptions

    options = TritonOptions(
        environment=environment,
        repository=model_repository,
        state_dir=state_dir,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
    )
    _interruptible(_triton, options)


def _settings(config: Path | None, flags: dict[str, Any]) -> AgentSettings:
    from keeptune.agent.settings import read_settings

    return read_settings(config, os.environ, flags)


def _interruptible(work: Any, *arguments: Any) -> None:
    """Runs it; errors are told as those of any command."""
    import asyncio

    try:
        asyncio.run(work(*arguments))
    except KeyboardInterrupt:
        sys.exit(130)


async def _run(settings: AgentSettings) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    # Threads only wait on the disk here; each more would bring a stack and a heap of its own.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    from keeptune.agent.program import TritonMovedError, build
    from keeptune.runtime import logging
    from keeptune.runtime.auth import Tokens
    from keeptune.runtime.clock import SystemClock
    from keeptune.runtime.server import serve

    logging.configure(level=settings.log_level, format=settings.log_format)
    tokens_file = settings.server.tokens_file or settings.data_dir / "credentials"
    tokens = Tokens.load_or_create(tokens_file)
    while True:
        program = await build(settings, SystemClock())
        try:
            return await serve([program], settings.server, tokens=tokens)
        except TritonMovedError:
            continue


async def _join(settings: AgentSettings, join_token: str) -> None:
    from keeptune.agent.enrolment import enroll

    path = await enroll(settings, join_token)
    click.echo(f"hosts/{settings.host} has joined; its credential is in {path}")


async def _status(settings: AgentSettings, as_json: bool) -> None:
    from google.protobuf import json_format

    from keeptune.agent.enrolment import ask_status
    from keeptune.agent.status import status_lines

    answer = await ask_status(settings)
    if as_json:
        click.echo(json_format.MessageToJson(answer, preserving_proto_field_name=True))
        return
    click.echo("\n".join(status_lines(answer)))


async def _triton(options: Any) -> None:
    import asyncio
    import signal

    from keeptune.agent.tritonserver import run_tritonserver
    from keeptune.runtime import logging

    logging.configure()
    running = asyncio.ensure_future(run_tritonserver(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        click.echo("stopped", err=True)
