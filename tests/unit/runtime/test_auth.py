from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keeptune.runtime.auth import (
    Caller,
    ClientCredentials,
    Role,
    Tokens,
    allowed_roles,
    bearer,
)
from keeptune.runtime.errors import FailedPrecondition, KeeptuneError, Unauthenticated


def test_the_first_start_makes_a_token_for_each_role(tmp_path: Path) -> None:
    file = tmp_path / "data" / "credentials"
    tokens = Tokens.load_or_create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    made = {role: ClientCredentials.from_file(file, role).token for role in Role}
    assert len(set(made.values())) == len(Role)
    for role, token in made.items():
        assert len(token) >= 32
        assert tokens.caller_of(bearer(token)[1]) == Caller(role)
    assert [path.name for path in file.parent.iterdir()] == ["credentials"]


def test_a_second_start_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    Tokens.load_or_create(file)
    before = file.read_bytes()
    Tokens.load_or_create(file)
    assert file.read_bytes() == before


def test_programs_that_start_together_agree(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: Tokens.load_or_create(file), range(8)))
    header = bearer(ClientCredentials.from_file(file).token)[1]
    assert {tokens.caller_of(header).role for tokens in started} == {Role.ADMIN}


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer x", "Basic abc", "s3cret"])
def test_other_headers_are_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Tokens({"s3cret": Role.ADMIN}).caller_of(header)
    assert "s3cret" not in str(caught.value)
    assert caught.value.fix


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    Tokens.load_or_create(file)
    file.chmod(0o644)
    for attempt in (Tokens.load_or_create, ClientCredentials.from_file):
        with pytest.raises(FailedPrecondition, match="chmod 600"):
            attempt(file)


@pytest.mark.parametrize(("text", "line"), [("boss abc\n", 1), ("# note\n\nadmin\n", 3)])
def test_a_wrong_line_is_named(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(FailedPrecondition, match=f"line {line}"):
        Tokens.load_or_create(file)


def test_a_client_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="start the server once"):
        ClientCredentials.from_file(tmp_path / "credentials")
    file = tmp_path / "credentials"
    file.write_text("viewer abc\n")
    file.chmod(0o600)
    with pytest.raises(KeeptuneError, match="no token for the role admin"):
        ClientCredentials.from_file(file)


def test_several_tokens_may_have_a_role(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("worker one\nworker two\n")
    file.chmod(0o600)
    tokens = Tokens.load_or_create(file)
    for token in ("one", "two"):
        assert tokens.caller_of(f"Bearer {token}").role is Role.WORKER


def test_other_sources_are_asked_last() -> None:
    tokens = Tokens({"filed": Role.ADMIN})
    tokens.accept(lambda token: Caller(Role.AGENT, "hosts/x") if token == "enrolled" else None)
    assert tokens.caller_of("Bearer filed") == Caller(Role.ADMIN)
    assert tokens.caller_of("Bearer enrolled") == Caller(Role.AGENT, "hosts/x")
    with pytest.raises(Unauthenticated):
        tokens.caller_of("Bearer other")


def test_reading_is_for_all_and_changing_for_some() -> None:
    grants = {Role.WORKER: {"SuggestTrials"}, Role.AGENT: ("RequestRetune",)}
    for method in ("GetStudy", "ListStudies", "WatchStudy"):
        assert allowed_roles(f"/keeptune.v1.SearchService/{method}", grants) == set(Role)
    above = {Role.ADMIN, Role.OPERATOR}
    assert allowed_roles("/keeptune.v1.SearchService/StopStudy", grants) == above
    assert allowed_roles("/x.Y/SuggestTrials", grants) == above | {Role.WORKER}
    assert allowed_roles("/x.Y/RequestRetune", grants) == above | {Role.AGENT}
