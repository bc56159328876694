"""Commands that errors and tables of ours name are there, and mean what they say."""

from __future__ import annotations

import re

import pytest

from keeptune.cli import main
from keeptune.cli.study import _trials
from keeptune.client.nouns import KINDS, Kind
from keeptune.runtime.records import missing
from keeptune.v1 import search_pb2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_what_is_missing_is_found_by_a_command_that_exists(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    noun = kind.noun
    name = kind.form.replace("{", "").replace("}", "")
    error = missing(noun, name)
    assert error.message.startswith(f"{name} does not exist")
    command = re.search(r"`keeptune (.*)`", error.fix)
    assert command is not None
    assert main.run([*command[1].split(), "--help"]) == 0
    capsys.readouterr()


def test_trials_that_failed_are_counted_apart() -> None:
    study = search_pb2.Study(trial_counts=search_pb2.TrialCounts(completed=3, pruned=1))
    assert _trials(study) == "4"
    study.trial_counts.failed = 36
    study.budget.max_trials = 40
    assert _trials(study) == "40/40 (36 failed)"
