"""`keeptune agent` says what is wrong as every command does, and what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from keeptune.cli import main


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    tokens = tmp_path / "credentials"
    tokens.write_text("admin secret\n")
    tokens.chmod(0o600)
    return tmp_path


def test_the_status_of_an_agent_that_does_not_run(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{nobody.getsockname()[1]}"
        asked = ("agent", "status", "--data-dir", str(data_dir), "--listen", listen)
        assert main.run(asked) == 4
    assert capsys.readouterr().err == (
        f"error: no agent answers at {listen}: connection refused; "
        "fix: start it with `keeptune agent run`, or give its --config or --listen\n"
    )


def test_the_status_of_an_agent_whose_folder_is_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["agent", "status", "--data-dir", str(tmp_path / "none")]) == 5
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "give --config or --data-dir of the agent" in said


def test_a_triton_without_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--model-repository", "models", "--state-dir", "triton")
    assert main.run(["agent", "triton", *options]) == 2
    said = capsys.readouterr().err
    assert "make setup" in said and "give its path with --environment" in said
    assert "\nerror: " in said and "Error:" not in said


def test_settings_that_are_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.yaml").write_text("agent: {hosst: h}\n")
    assert main.run(["agent", "status", "--config", str(tmp_path / "agent.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: agent.hosst")
