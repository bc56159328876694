"""How a command ends when it does not succeed: what is said, and the exit status.

The statuses are part of the interface; programs may rely on them.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keeptune.runtime.errors import KeeptuneError

FAILED = 1
INVALID = 2
NOT_FOUND = 3
UNAVAILABLE = 4
DENIED = 5
PRECONDITION = 6
NOT_IMPLEMENTED = 7
INTERRUPTED = 130

STATUSES = {
    "INVALID_ARGUMENT": INVALID,
    "OUT_OF_RANGE": INVALID,
    "NOT_FOUND": NOT_FOUND,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
    "RESOURCE_EXHAUSTED": UNAVAILABLE,
    "UNAUTHENTICATED": DENIED,
    "PERMISSION_DENIED": DENIED,
    "FAILED_PRECONDITION": PRECONDITION,
    "ALREADY_EXISTS": PRECONDITION,
    "ABORTED": PRECONDITION,
    "UNIMPLEMENTED": NOT_IMPLEMENTED,
}


def report(error: BaseException, *, as_json: bool) -> int:
    """Says on standard error what went wrong; the exit status.

    What is neither an error of keeptune's nor of the command line's is a defect and raised again.
    """
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        if as_json:
            _print({"code": "USAGE", "message": error.format_message()})
        else:
            _show(error)
        return error.exit_code
    from keeptune.runtime.errors import FailedPrecondition, KeeptuneError

    if isinstance(error, ModuleNotFoundError) and _is_of_a_role(error):
        error = FailedPrecondition(
            f"this command needs {error.name}, which is not installed here",
            fix="install the role it belongs to, e.g. pip install 'keeptune[agent]', or "
            "'keeptune[all]'",
            reason="ROLE_NOT_INSTALLED",
        )
    if not isinstance(error, KeeptuneError):
        raise error
    if as_json:
        _print(as_data(error))
    else:
        _say(error)
    return STATUSES.get(error.code.name, FAILED)


def _is_of_a_role(error: ModuleNotFoundError) -> bool:
    """Whether an extra would bring it; a module of our own that is missing is a defect."""
    return bool(error.name) and not str(error.name).startswith("keeptune")


def as_data(error: KeeptuneError) -> dict[str, Any]:
    """An error for programs."""
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "fix": error.fix,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after,
        "violations": [
            {"field": v.field, "problem": v.problem, "fix": v.fix} for v in error.violations
        ],
        "metadata": error.metadata,
    }


def _say(error: KeeptuneError) -> None:
    problems = error.violations
    if len(problems) > 1:
        click.echo(f"{_mark()} {len(problems)} things are wrong:", err=True)
        for each in problems:
            click.echo(f"  {each}", err=True)
        return
    click.echo(f"{_mark()} {problems[0] if problems else error.message}", err=True)
    if problems and error.message and problems[0].problem not in error.message:
        click.echo(f"  {error.message}", err=True)


def _show(error: click.ClickException) -> None:
    """As click would, with our mark."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        if error.ctx.command.get_help_option(error.ctx) is not None:
            option = error.ctx.help_option_names[0]
            click.echo(f"Try '{error.ctx.command_path} {option}' for help.\n", err=True)
    click.echo(f"{_mark()} {error.format_message()}", err=True)


def _mark() -> str:
    return click.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"


def _print(error: dict[str, Any]) -> None:
    click.echo(json.dumps({"error": error}, indent=2), err=True)
