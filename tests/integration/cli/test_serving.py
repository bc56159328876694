"""`keeptune serve` and `keeptune dev` that cannot begin say why, and which setting to mend."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from keeptune.cli import main
from keeptune.runtime import postgres


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A program that serves sets up the logs of its whole process, here that of the tests."""
    yield
    structlog.reset_defaults()


def test_a_database_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(postgres, "_RECONNECT_SECONDS", 0.0)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        url = f"postgresql://me:hidden@127.0.0.1:{port}/x"
        monkeypatch.setenv("KEEPTUNE_SEARCH__DATABASE", url)
        status = main.run(
            ["serve", "search", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0"]
        )
    assert status == 4
    said = capfd.readouterr()
    everything = said.out + said.err
    assert f"127.0.0.1:{port}/x" in everything.partition("error:")[0], "where, before it waits"
    error = everything.partition("error:")[2]
    assert "Connection refused" in error and f"port {port}" in error
    assert "search.database (KEEPTUNE_SEARCH__DATABASE)" in error
    assert "hidden" not in everything
