"""A real control plane, and its command line."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keeptune.cli import main
from tests.fixtures.served import Served, serve


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


Keeptune = Callable[..., Done]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = serve(["dev"], tmp_path_factory.mktemp("plane") / "data")
    yield served
    served.stop()


@pytest.fixture
def keeptune(
    control_plane: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Keeptune:
    """Runs one command, which finds the control plane by its data folder as on any machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEEPTUNE_DATA_DIR", str(control_plane.data_dir))
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run(*arguments: str, status: int | None = 0, **environment: str) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            found = main.run(arguments)
        said = capsys.readouterr()
        if status is not None:
            assert found == status, said.err
        return Done(found, said.out, said.err)

    return run
