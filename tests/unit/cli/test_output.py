"""What commands print."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml

from keeptune.cli import output
from keeptune.cli.progress import Progress
from keeptune.client.errors import InvalidInput
from keeptune.client.manifest import load
from keeptune.client.nouns import BY_NOUN, kind_of
from keeptune.v1 import search_pb2, types_pb2


@pytest.mark.parametrize(
    ("noun", "given", "name"),
    [
        ("study", "a", "studies/a"),
        ("study", "studies/a", "studies/a"),
        ("trial", "a/3", "studies/a/trials/3"),
        ("trial", "studies/a/trials/3", "studies/a/trials/3"),
        ("version", "digits/2", "models/digits/versions/2"),
    ],
)
def test_names_may_be_short(noun: str, given: str, name: str) -> None:
    assert BY_NOUN[noun].qualified(given) == name
    assert kind_of(name).noun == noun


@pytest.mark.parametrize(
    ("noun", "given"),
    [("study", "models/a"), ("study", ""), ("study", "a/b/c"), ("trial", "a"), ("trial", "")],
)
def test_what_is_no_name_says_what_one_looks_like(noun: str, given: str) -> None:
    with pytest.raises(InvalidInput, match=BY_NOUN[noun].collection):
        BY_NOUN[noun].qualified(given)


def test_a_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output.print_table([("a", long), ("bbb", "")], [("N", lambda r: r[0]), ("V", lambda r: r[1])])
    assert capsys.readouterr().out == f"N    V\na    {long}\nbbb  -\n"


def test_what_show_prints_can_be_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    study = search_pb2.Study(
        name="studies/a",
        metrics=[search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)],
        budget=search_pb2.Budget(max_trials=20),
        labels={"team": "STUDY_STATE_X"},
    )
    output.print_message(study, as_json=False)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["metrics"] == [{"name": "loss", "goal": "MINIMIZE"}]
    assert printed["budget"] == {"max_trials": 20}
    assert load(printed, search_pb2.Study) == study


def test_ages() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for seconds, text in ((0, "0s"), (59, "59s"), (3599, "59m"), (7200, "2h"), (200_000, "2d")):
        study = search_pb2.Study()
        study.metadata.create_time.FromDatetime(now - timedelta(seconds=seconds))
        assert output.age(study.metadata.create_time, now) == text
    assert output.age(search_pb2.Study().metadata.create_time) == ""


def test_progress_without_a_terminal_is_a_line_for_each_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress() as progress:
        progress.step("SEARCHING")
        for text in ("1 of 2", "1 of 2", "2 of 2"):
            progress.now(text)
    said = capsys.readouterr()
    assert [line[10:] for line in said.err.splitlines()] == ["SEARCHING", "1 of 2", "2 of 2"]
    assert not said.out
