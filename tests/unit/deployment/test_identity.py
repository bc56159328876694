"""The registry's key, and what hosts show."""

from pathlib import Path

import pytest

from keeptune.deployment.identity import HostCredentials, JoinToken
from keeptune.deployment.signing import RegistryKey
from keeptune.runtime.auth import Caller, Role
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, Unauthenticated
from keeptune.runtime.host_credentials import source_of


def test_the_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "registry.key"
    first = RegistryKey.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = RegistryKey.load_or_create(path)
    assert first.public_key == again.public_key
    assert len(first.public_key) == 32
    assert again.sign(b"content") == first.sign(b"content")


@pytest.mark.parametrize("content", ["", "nonsense", "abcd"])
def test_a_broken_key_is_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "registry.key"
    path.write_text(content)
    with pytest.raises(FailedPrecondition, match="holds no registry key"):
        RegistryKey.load_or_create(path)
    assert path.read_text() == content


def test_a_credential_says_whose_it_is_and_cannot_be_made_up(tmp_path: Path) -> None:
    credentials = HostCredentials(RegistryKey.load_or_create(tmp_path / "one"))
    token = credentials.issue("hosts/a", "r1")
    assert credentials.caller(token) == Caller(Role.AGENT, "hosts/a")
    assert credentials.issue("hosts/a", "r1") == token
    assert credentials.issue("hosts/a", "r2") != token
    assert credentials.issue("hosts/a", "") != credentials.issue("hosts/a", "")
    _, nonce, signature = token.split(".")
    others = HostCredentials(RegistryKey.load_or_create(tmp_path / "other"))
    forgeries = (
        f"b.{nonce}.{signature}",
        f"a.{nonce[::-1]}.{signature}",
        token[:-4],
        "",
        "a..",
        "a.b.c",
        "no dots at all",
        others.issue("hosts/a", "r1"),
    )
    for forged in forgeries:
        assert credentials.caller(forged) is None, forged


def test_other_servers_recognise_hosts_by_the_published_key(tmp_path: Path) -> None:
    published = tmp_path / "registry.pub"
    recognise = source_of(published)
    key = RegistryKey.load_or_create(tmp_path / "registry.key")
    token = HostCredentials(key).issue("hosts/a", "r1")
    assert recognise(token) is None, "the deployment service has not started yet"
    for _ in range(2):
        key.publish(published)
    assert published.read_text().strip() == key.public_key.hex()
    assert recognise(token) == Caller(Role.AGENT, "hosts/a")
    assert recognise("a.b.c") is None
    RegistryKey.load_or_create(tmp_path / "new.key").publish(published)
    assert recognise(token) is None


def test_the_join_token_can_be_changed_under_way(tmp_path: Path) -> None:
    path = tmp_path / "join-token"
    token = JoinToken(path)
    token.check(path.read_text().strip())
    path.write_text("another\n")
    token.check("another")
    with pytest.raises(Unauthenticated):
        token.check("guess")
    with pytest.raises(InvalidInput):
        token.check("")
    path.write_text("")
    with pytest.raises(Unauthenticated):
        token.check("guess")
