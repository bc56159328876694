"""How commands end: the exit status, and what is said on standard error."""

import json
from importlib import metadata
from pathlib import Path

import click
import pytest

from keeptune.cli import failures, main
from keeptune.client import errors


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `raise` that raises what stands in the list."""
    held: list[BaseException] = []

    def callback() -> None:
        raise held[0]

    command = click.Command("raise", callback=callback)
    monkeypatch.setattr(main, "_plugins", lambda: {"raise": _Point(command)})
    return held


class _Point:
    name, value = "raise", "tests:raise"

    def __init__(self, loaded: object) -> None:
        self._loaded = loaded

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput(field="space", problem="is empty", fix="name a parameter"), 2),
        (errors.NotFound("studies/x does not exist"), 3),
        (errors.Unavailable("search at host:1 cannot be reached", fix="start it"), 4),
        (errors.DeadlineExceeded("no answer"), 4),
        (errors.ResourceExhausted("the disk is full"), 4),
        (errors.Unauthenticated("the token is not known here"), 5),
        (errors.PermissionDenied("the role viewer may not"), 5),
        (errors.FailedPrecondition("it has ended"), 6),
        (errors.AlreadyExists("studies/x exists"), 6),
        (errors.Conflict("stale"), 6),
        (errors.NotImplementedYet("later", fix="do it by hand"), 7),
        (errors.Internal("a defect"), 1),
        (errors.DataLoss("a checksum does not match"), 1),
        (KeyboardInterrupt(), 130),
        (click.UsageError("no such option"), 2),
        (click.exceptions.Exit(9), 9),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_kind_of_end_has_its_status(
    raising: list[BaseException],
    error: BaseException,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising.append(error)
    assert main.run(["raise"]) == status
    said = capsys.readouterr()
    assert not said.out
    if isinstance(error, errors.KeeptuneError):
        assert "error: " in said.err and error.message.partition(";")[0] in said.err
        assert error.fix in said.err


def test_every_code_has_a_status_that_the_help_explains() -> None:
    told = main.keeptune.help or ""
    for status in {*failures.STATUSES.values(), failures.FAILED, failures.INTERRUPTED}:
        assert f"{status} " in told


def test_errors_for_programs(
    raising: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    raising.append(
        errors.InvalidInput.many(
            [errors.Violation("a", "is 3", "give 2"), errors.Violation("b", "is missing")],
            reason="WRONG",
        )
    )
    assert main.run(["--json", "raise"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "WRONG")
    assert error["violations"][0] == {"field": "a", "problem": "is 3", "fix": "give 2"}
    assert main.run(["study", "show", "--json"]) == 2
    assert "Missing argument" in json.loads(capsys.readouterr().err)["error"]["message"]


def test_all_that_is_wrong_is_listed(
    raising: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    raising.append(
        errors.InvalidInput.many([errors.Violation("a", "is 3", "2"), errors.Violation("b", "no")])
    )
    main.run(["raise"])
    assert capsys.readouterr().err == "error: 2 things are wrong:\n  a is 3; fix: 2\n  b no\n"


def test_a_defect_is_not_hidden(raising: list[BaseException]) -> None:
    raising.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main.run(["raise"])


@pytest.mark.parametrize(
    ("loaded", "hint"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "needs torch"),
        (SyntaxError("bad"), "SyntaxError"),
        ("a string", "no click command"),
    ],
)
def test_a_broken_plugin_explains_itself_and_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    loaded: object,
    hint: str,
) -> None:
    monkeypatch.setattr(main, "_plugins", lambda: {"raise": _Point(loaded)})
    assert main.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert "raise" in said and "study" in said
    assert main.run(["raise", "--whatever", "x"]) == 6
    assert hint in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"keeptune {metadata.version('keeptune')}\n"
    assert main.run(["polcy"]) == 2
    assert "policy" in capsys.readouterr().err
    assert main.run(["policy", "apply"]) == 2
    assert main.run(["policy", "apply", "-f", str(tmp_path / "none.yaml")]) == 2
    assert main.run(["--timeout", "0", "study", "list"]) == 2
    capsys.readouterr()


def test_without_a_control_plane_the_next_step_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEEPTUNE_ADDRESS", raising=False)
    assert main.run(["--data-dir", str(tmp_path), "study", "list"]) == 6
    assert "keeptune dev" in capsys.readouterr().err


def test_deleting_needs_a_yes_when_nobody_can_be_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    assert main.run(["study", "delete", "x"]) == 2
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    assert "_KEEPTUNE_COMPLETE" in capsys.readouterr().out


def test_every_command_and_option_says_what_it_is_for() -> None:
    context = click.Context(main.keeptune)

    def walk(command: click.Command, path: str) -> None:
        assert command.help or command.get_short_help_str(), path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts}"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                walk(found, f"{path} {name}")

    for name in main.OWN:
        found = main.keeptune.get_command(context, name)
        assert found is not None
        walk(found, name)
