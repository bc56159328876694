from __future__ import annotations

from pathlib import Path

import pytest

from keeptune.agent.config import default_host
from keeptune.agent.credentials import HostCredential, control_plane_credentials
from keeptune.agent.limits import watch_of
from keeptune.agent.settings import read_settings
from keeptune.runtime.auth import Tokens
from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.v1 import monitoring_pb2


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("agent:\n  host: a\n  deployment: 127.0.0.1:1\n  labels: {zone: z}\n")
    settings = read_settings(
        file,
        {"KEEPTUNE_AGENT__DEPLOYMENT": "127.0.0.1:2", "KEEPTUNE_AGENT__HOST": "b"},
        {"host": "c", "listen": "127.0.0.1:9", "triton_state_dir": tmp_path, "retuning": None},
    )
    assert (settings.host, settings.deployment) == ("c", "127.0.0.1:2")
    assert settings.retuning_address == "127.0.0.1:2"
    assert settings.labels == {"zone": "z"}
    assert settings.server.listen == "127.0.0.1:9"
    assert settings.triton.state_dir == tmp_path


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({"KEEPTUNE_AGENT__HOSTT": "x"}, "agent.hostt"),
        ({"KEEPTUNE_AGENT__HOST": "Not An Id"}, "agent.host"),
        ({"KEEPTUNE_AGENT__TRITON__SAMPLER": "magic"}, "agent.triton.sampler"),
    ],
)
def test_what_is_unknown_or_wrong_is_named(env: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings(None, env, {})
    assert caught.value.field == field


def test_the_home_folder_may_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_settings(None, {"KEEPTUNE_AGENT__TOKENS_FILE": "~/credentials"}, {})
    assert settings.tokens_file == tmp_path / "credentials"


def test_the_default_host_is_an_id() -> None:
    read_settings(None, {"KEEPTUNE_AGENT__HOST": default_host()}, {})


def test_credentials_come_from_joining_or_from_the_same_machine(tmp_path: Path) -> None:
    settings = read_settings(None, {}, {"host": "a", "data_dir": tmp_path / "agent"})
    with pytest.raises(FailedPrecondition, match="keeptune agent join"):
        control_plane_credentials(settings, HostCredential.load(settings.data_dir))
    tokens_file = tmp_path / "credentials"
    Tokens.load_or_create(tokens_file)
    local = read_settings(None, {}, {"host": "a", "tokens_file": tokens_file})
    assert f"agent {control_plane_credentials(local, None).token}" in tokens_file.read_text()

    path = HostCredential("a", "secret", bytes(32)).store(settings.data_dir)
    assert path.stat().st_mode & 0o077 == 0
    enrolled = HostCredential.load(settings.data_dir)
    assert enrolled == HostCredential("a", "secret", bytes(32))
    assert control_plane_credentials(settings, enrolled).token == "secret"
    other = read_settings(None, {}, {"host": "b", "data_dir": settings.data_dir})
    with pytest.raises(FailedPrecondition, match="of the host 'a'"):
        control_plane_credentials(other, enrolled)


def test_defaults_of_monitoring() -> None:
    watch = watch_of(monitoring_pb2.Monitoring())
    assert (watch.sample_every, watch.limits.average_run_length) == (10, 50_000)
    assert watch_of(monitoring_pb2.Monitoring(sampling_rate=0.0)).sample_every == 0
    assert watch_of(monitoring_pb2.Monitoring(sampling_rate=0.34)).sample_every == 3
    limits = monitoring_pb2.HealthLimits(max_error_rate=0.0)
    limits.max_latency.FromMilliseconds(20)
    strict = watch_of(monitoring_pb2.Monitoring(health=limits)).limits
    assert (strict.max_error_rate, strict.max_latency) == (0.0, 0.02)
