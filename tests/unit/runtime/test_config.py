from pathlib import Path
from typing import Any

import pytest

from keeptune.runtime.config import Loaded, ServerSettings, Settings, load
from keeptune.runtime.errors import InvalidInput


class Limits(Settings):
    trials: int = 100
    names: tuple[str, ...] = ()


class SearchSettings(Settings):
    database: str = "sqlite:///search.db"
    password: str = ""
    workers: int = 2
    limits: Limits = Limits()
    server: ServerSettings = ServerSettings()


def read(
    text: str | None = None, *, folder: Path | None = None, **options: Any
) -> Loaded[SearchSettings]:
    file = None
    if text is not None:
        assert folder is not None
        file = folder / "keeptune.yaml"
        file.write_text(text)
    options.setdefault("env", {})
    return load(SearchSettings, file=file, section="search", **options)


def test_defaults_stand_when_nothing_is_said() -> None:
    loaded = read()
    assert loaded.value == SearchSettings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins["limits.trials"] == "default"
    assert loaded.origins["server.listen"] == "default"


def test_the_file_overrides_defaults_and_the_environment_the_file(tmp_path: Path) -> None:
    text = """
training:
  whatever: 1
search:
  workers: 3
  limits:
    trials: 7
    names: [a, b]
  server: {listen: '127.0.0.1:7070'}
"""
    env = {
        "KEEPTUNE_SEARCH__WORKERS": "5",
        "KEEPTUNE_SEARCH__LIMITS__TRIALS": "9",
        "KEEPTUNE_SEARCH__PASSWORD": "0123",
        "KEEPTUNE_TRAINING__NONSENSE": "1",
        "HOME": "/",
    }
    loaded = read(text, folder=tmp_path, env=env)
    assert loaded.value.workers == 5
    assert loaded.value.limits == Limits(trials=9, names=("a", "b"))
    assert loaded.value.server.listen == "127.0.0.1:7070"
    assert loaded.value.password == "0123"
    origins = loaded.origins
    assert origins["workers"] == "KEEPTUNE_SEARCH__WORKERS"
    assert origins["limits.trials"] == "KEEPTUNE_SEARCH__LIMITS__TRIALS"
    assert origins["limits.names"] == f"{tmp_path / 'keeptune.yaml'} line 8"
    assert origins["server.listen"] == f"{tmp_path / 'keeptune.yaml'} line 9"
    assert origins["server.reflection"] == "default"
    assert origins["database"] == "default"


def test_lists_and_mappings_can_stand_in_the_environment() -> None:
    env = {
        "KEEPTUNE_SEARCH__LIMITS__NAMES": "[x, y]",
        "KEEPTUNE_SEARCH__SERVER": "{reflection: true}",
    }
    loaded = read(env=env)
    assert loaded.value.limits.names == ("x", "y")
    assert loaded.value.server.reflection is True
    assert loaded.origins["server.reflection"] == "KEEPTUNE_SEARCH__SERVER"


@pytest.mark.parametrize(
    ("text", "env", "field", "message"),
    [
        ("search: {worker: 3}", {}, "search.worker", "did you mean workers?"),
        ("search: {limits: {trails: 3}}", {}, "search.limits.trails", "did you mean trials?"),
        ("search: {zzzz: 3}", {}, "search.zzzz", "use one of database"),
        ("{}", {"KEEPTUNE_SEARCH__WORKRES": "1"}, "search.workres", "KEEPTUNE_SEARCH__WORKRES"),
        ("search: {workers: many}", {}, "search.workers", "line 1"),
        ("{}", {"KEEPTUNE_SEARCH__WORKERS": "x"}, "search.workers", "KEEPTUNE_SEARCH__WORKERS"),
        ("search: {workers: 1, workers: 2}", {}, "workers", "stands twice"),
        ("search: 5", {}, "search", "no mapping"),
        ("- a", {}, "config", "no mapping"),
        ("search: [", {}, "config", "no YAML"),
        ("saerch: {}", {}, "saerch", "did you mean search?"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, text: str, env: dict[str, str], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text, folder=tmp_path, env=env, sections=("search", "training"))
    assert caught.value.field == field
    assert message in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read("search: {worker: 1, workers: x, databse: y}", folder=tmp_path)
    assert {each.field for each in caught.value.violations} == {
        "search.worker",
        "search.workers",
        "search.databse",
    }


def test_a_wrong_value_is_not_repeated(tmp_path: Path) -> None:
    """It may be a secret that stands in the wrong place."""
    with pytest.raises(InvalidInput) as caught:
        read("search: {workers: hunter2}", folder=tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(SearchSettings, file=tmp_path / "none.yaml", env={}, section="search")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read("", folder=tmp_path).value == SearchSettings()
    assert read("search:\n", folder=tmp_path).value == SearchSettings()
