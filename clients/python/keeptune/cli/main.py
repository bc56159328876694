"""`keeptune`: the global options, and where each command comes from.

Commands of our own and those that an installed role brings (entry point group
`keeptune.commands`) are imported when they are asked for, so that `keeptune --help` is quick and
a broken plugin harms nobody but its own command.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from keeptune.cli import failures
from keeptune.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

PLUGINS = "keeptune.commands"

OWN = {
    "completion": "keeptune.cli.completion:completion",
    "doctor": "keeptune.cli.doctor:doctor",
    "evaluation": "keeptune.cli.evaluation:evaluation",
    "host": "keeptune.cli.rollout:host",
    "model": "keeptune.cli.model:model",
    "policy": "keeptune.cli.policy:policy",
    "retune": "keeptune.cli.retune:retune",
    "rollout": "keeptune.cli.rollout:rollout",
    "study": "keeptune.cli.study:study",
    "trainer": "keeptune.cli.training:trainer",
    "training": "keeptune.cli.training:training",
    "trial": "keeptune.cli.trial:trial",
}


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*OWN, *_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OWN:
            return _load(OWN[cmd_name])
        plugin = _plugins().get(cmd_name)
        if plugin is None:
            return None
        try:
            loaded = plugin.load()
            if not isinstance(loaded, click.Command):
                raise TypeError(f"{plugin.value} is no click command")
        except Exception as error:  # noqa: BLE001  (whatever a plugin does wrong)
            return _broken(plugin, error)
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx))
            if not near:
                raise
            hint = f"{error.message} Did you mean {' or '.join(near)}?"
            raise click.UsageError(hint, ctx) from None


def _plugins() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=PLUGINS)}


def _load(path: str) -> click.Command:
    module, _, name = path.partition(":")
    command = getattr(importlib.import_module(module), name)
    assert isinstance(command, click.Command)
    return command


def _broken(plugin: metadata.EntryPoint, error: Exception) -> click.Command:
    """Stands for a plugin that cannot be loaded: says why instead of running."""

    def explain() -> None:
        if isinstance(error, ModuleNotFoundError):
            raise error
        from keeptune.runtime.errors import FailedPrecondition

        raise FailedPrecondition(
            f"the command {plugin.name} cannot be loaded: {type(error).__name__}: {error}",
            fix=f"mend or uninstall the distribution that brings {plugin.value}",
            reason="BROKEN_COMMAND",
        ) from error

    missing = isinstance(error, ModuleNotFoundError)
    return click.Command(
        plugin.name,
        callback=explain,
        short_help="(not installed)" if missing else "(broken)",
        help=f"This command cannot be loaded: {error}.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
    )


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"keeptune {metadata.version('keeptune')}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--address", metavar="HOST:PORT", help="Of the server that has all services.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of a `keeptune dev` on this machine.  [default: ~/.local/share/keeptune]",
)
@click.option(
    "--tokens-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the token stands that is shown to the services.",
)
@click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM file of the authority that signed the servers' certificates.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="KEEPTUNE_CONFIG",
    help="YAML file whose section services gives each service's address.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for one call.",
)
@click.option("--json", "as_json", is_flag=True, help="Answers, and errors, as JSON.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="The version installed here.",
)
@click.pass_obj
def keeptune(session: Session, /, **options: Any) -> None:
    """Keeps the models you serve in tune: search, train, evaluate, deploy, watch, retune.

    Without options, commands talk to the `keeptune dev` of this machine, or to what
    KEEPTUNE_ADDRESS, KEEPTUNE_TOKEN (or KEEPTUNE_TOKENS_FILE) and KEEPTUNE_CA say.

    Exit status: 0 done; 1 it failed or ended badly; 2 wrong usage or input; 3 not found;
    4 the service cannot be reached or did not answer in time; 5 not allowed; 6 not possible in
    the present state; 7 not implemented yet; 130 interrupted.
    """
    for name, value in options.items():
        if value is not None:
            setattr(session, name, value)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    session = Session(as_json="--json" in arguments)
    try:
        status = keeptune.main(
            args=list(arguments), prog_name="keeptune", standalone_mode=False, obj=session
        )
    except BrokenPipeError:
        # Whoever read us has enough; the interpreter must not flush into the void at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.FAILED
    except BaseException as error:  # noqa: BLE001  (what is not ours, `report` raises again)
        return failures.report(error, as_json=session.as_json)
    return status if isinstance(status, int) else 0


def main() -> NoReturn:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
