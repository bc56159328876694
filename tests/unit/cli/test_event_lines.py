"""What `watch` says of events, a line each."""

from __future__ import annotations

import json

import pytest

from keeptune.cli.verbs import EventLines
from keeptune.v1 import retuning_pb2, training_pb2, types_pb2

Event = retuning_pb2.WatchRetunesResponse


def event(revision: int, name: str, reason: str, study: str = "") -> Event:
    retune = retuning_pb2.Retune(
        name=f"retunes/{name}",
        metadata=types_pb2.Metadata(revision=revision),
        reason=reason,
        study=study,
    )
    return Event(revision=revision, retune=retune)


EVENTS = [
    event(1, "a", "begins"),
    event(2, "a", "begins", study="studies/a"),
    event(3, "b", "begins"),
    event(4, "a", "begins", study="studies/other"),
    event(5, "a", "searches"),
    event(6, "a", "begins"),
]


def line(told: Event) -> str:
    return f"{told.retune.name} {told.retune.reason}"


def test_a_change_that_does_not_show_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = EventLines(line, as_json=False)
    for each in EVENTS:
        lines.show(each)
    said = [each.partition("  ")[2] for each in capsys.readouterr().out.splitlines()]
    assert said == [
        "retunes/a begins",
        "retunes/b begins",
        "retunes/a searches",
        "retunes/a begins",
    ]


def test_programs_get_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    lines = EventLines(line, as_json=True)
    for each in EVENTS:
        lines.show(each)
    told = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert [int(each["revision"]) for each in told] == [1, 2, 3, 4, 5, 6]


def test_what_is_no_resource_is_always_told(capsys: pytest.CaptureFixture[str]) -> None:
    progress = training_pb2.WatchTrainingResponse(
        progress=training_pb2.TrainingProgress(trial="studies/s/trials/1")
    )
    lines = EventLines(lambda told: told.progress.trial, as_json=False)
    for _ in range(2):
        lines.show(progress)
    assert len(capsys.readouterr().out.splitlines()) == 2
