"""The files of the README's tour: the README shows them as they are, and keeptune takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keeptune.agent.settings import read_settings
from keeptune.client.manifest import load, take_id
from keeptune.composition.assembly import read_configuration
from keeptune.composition.services import SERVICES
from keeptune.v1 import retuning_pb2

ROOT = Path(__file__).parents[3]
TOUR = ROOT / "docs" / "tour"
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["study.py", "policy.yaml", "agent.yaml"])
def test_the_readme_shows_the_file(name: str) -> None:
    assert (TOUR / name).read_text() in README


def test_every_file_is_in_the_readme() -> None:
    assert [path.name for path in TOUR.iterdir() if path.name not in README] == []


def test_the_agent_takes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_settings(TOUR / "agent.yaml", {}, {})
    assert settings.tokens_file == tmp_path / ".local/share/keeptune/credentials"
    assert settings.triton.state_dir == Path("triton")


def test_the_policy_learns_before_it_is_asked_again() -> None:
    policy = load(TOUR / "policy.yaml", retuning_pb2.Policy)
    assert take_id(policy, "policies") == "digits"
    assert policy.cooldown.seconds == 30
    assert policy.data.fresh.min_rows > 0 and policy.monitoring.capture.enabled


def test_each_service_takes_the_file_of_services_apart() -> None:
    for service in SERVICES:
        configuration = read_configuration(
            (service,), file=TOUR / "apart.yaml", env={}, data_dir=None, listen=""
        )
        assert getattr(configuration.services.value, service).startswith("127.0.0.1:")


def test_the_data_is_what_policy_and_traffic_read(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, TOUR / "data.py"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        timeout=60,
    )
    policy = load(TOUR / "policy.yaml", retuning_pb2.Policy)
    read = {Path(d.uri).name for d in (*policy.data.training, *policy.data.evaluation)}
    assert {path.name for path in tmp_path.iterdir()} == {*read, "served.npz"}
