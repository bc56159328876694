"""`keeptune completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """The script that completes commands and options in a shell.

    \b
    bash:  eval "$(keeptune completion bash)"                    in ~/.bashrc
    zsh:   eval "$(keeptune completion zsh)"                     in ~/.zshrc
    fish:  keeptune completion fish | source                     in config.fish
    """
    from keeptune.cli.main import keeptune

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(keeptune, {}, "keeptune", "_KEEPTUNE_COMPLETE").source())
