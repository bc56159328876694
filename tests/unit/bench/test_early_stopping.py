"""The clock of the early-stopping benchmark, and what it reports."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from keeptune.search.space import Assignment
from tests.bench.early_stopping import report
from tests.bench.early_stopping.curves import Curve, configurations, key_of
from tests.bench.early_stopping.report import Run
from tests.bench.early_stopping.simulation import play
from tests.bench.early_stopping.tasks import TASKS


class InOrder:
    """Suggests 0, 1, 2, ..., and stops those named at step 2."""

    def __init__(self, stopped: Iterable[int] = ()) -> None:
        self._stopped = set(stopped)
        self.said: list[tuple[str, int, int]] = []

    def suggest(self, trial: int) -> Assignment:
        return {"x": trial}

    def report(self, trial: int, step: int, loss: float) -> bool:
        return trial in self._stopped and step == 2

    def complete(self, trial: int, step: int, loss: float) -> None:
        self.said.append(("complete", trial, step))

    def stopped(self, trial: int, step: int, loss: float) -> None:
        self.said.append(("stopped", trial, step))


def table(*ends: float, seconds: float = 1.0) -> dict[str, Curve]:
    return {key_of({"x": i}): Curve((end + 2, end + 1, end), seconds) for i, end in enumerate(ends)}


def test_workers_take_what_is_next_when_they_are_free() -> None:
    tool = InOrder(stopped=[1])
    ended = list(play(tool, table(5.0, 4.0, 3.0, 2.0), 2, until=9.0, wanted=3.0, most=9))
    # In whole trainings of three steps.
    assert [(round(3 * each.time), each.steps, each.completed) for each in ended] == [
        (2, 2, False),
        (3, 3, True),
        (5, 3, True),
    ]
    assert [each.best for each in ended] == [float("inf"), float("inf"), 5.0]
    assert tool.said == [("stopped", 1, 2), ("complete", 0, 3), ("complete", 2, 3)]


@pytest.mark.parametrize(("until", "most", "count"), [(1.0, 9, 1), (9.0, 2, 2)])
def test_time_and_trials_end(until: float, most: int, count: int) -> None:
    found = list(play(InOrder(), table(*[1.0] * 9), 1, until=until, wanted=0.0, most=most))
    assert len(found) == count


def test_a_report_tells_times_and_ratios() -> None:
    def run(tool: str, seed: int, time: float) -> Run:
        return Run("t", tool, seed, True, time, 5, 2, 1, 0, ((1.0, 0.5), (time, 0.1)), 0.0)

    runs = [run("auto + forecast", seed, 2.0) for seed in range(3)]
    runs += [run("peer", seed, 8.0) for seed in range(3)]
    assert [Run(**json.loads(json.dumps(each.as_json()))).time for each in runs[2:4]] == [2.0, 8.0]
    text = report.text(runs, peers=["peer"])
    assert "auto + forecast / peer: 0.25 [0.25, 0.25]" in text
    assert "0.0% of 6, 0 of 3 winners" in text
    assert sum(1 for _ in configurations(TASKS["torch-patches"])) == 216
