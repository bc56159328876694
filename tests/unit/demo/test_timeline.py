"""The summary counts what happened, and says so when the loop did not close."""

from __future__ import annotations

from keeptune.demo.story import Script, shortcomings
from keeptune.demo.timeline import Request, Timeline, rolling_accuracy, summarize


def served(count: int, start: float, version: str, right: float) -> list[Request]:
    every = round(1 / (1 - right)) if right < 1 else 0
    return [
        Request(start + i / 50, 2.0, version, not (every and i % every == 0)) for i in range(count)
    ]


def a_run() -> Timeline:
    timeline = Timeline()
    for request in served(3000, 0.0, "1", 0.98):
        timeline.add(request)
    timeline.camera_changed = 60.0
    for request in served(1000, 60.0, "1", 0.5):
        timeline.add(request)
    timeline.signals.append(62.0)
    for request in served(1000, 80.0, "2", 0.97):
        timeline.add(request)
    timeline.trials = {"studies/a": [(1.0, 0.9)] * 12, "studies/b": [(70.0, 0.9)] * 12}
    return timeline


def summary_of(timeline: Timeline) -> dict[str, object]:
    return vars(summarize(timeline, seed=1, sampling_rate=0.5, seconds=100.0, problems=[]))


def test_a_closed_loop_in_figures() -> None:
    timeline = a_run()
    figures = summary_of(timeline)
    assert figures["requests"] == 5000
    assert figures["failed_requests"] == 0
    assert figures["calm_requests"] == 3000
    assert figures["false_alarms"] == 0
    assert figures["requests_to_detect"] == 100
    assert figures["seconds_drift_to_recovered"] == 20.0
    assert figures["versions"] == ["1", "2"]
    assert figures["trials"] == 24
    assert figures["accuracy_before"] == 0.98
    assert figures["accuracy_drifted"] == 0.5
    summary = summarize(timeline, seed=1, sampling_rate=0.5, seconds=100.0, problems=[])
    assert shortcomings(summary, Script()) == []


def test_an_alarm_in_calm_weather_is_a_false_one() -> None:
    timeline = a_run()
    timeline.signals.insert(0, 30.0)
    summary = summarize(timeline, seed=1, sampling_rate=0.5, seconds=100.0, problems=[])
    assert summary.false_alarms == 1
    assert any("false alarm" in problem for problem in shortcomings(summary, Script()))


def test_a_failed_request_and_a_poor_recovery_are_shortcomings() -> None:
    timeline = a_run()
    timeline.add(Request(99.0, 2.0, "", False, "unavailable"))
    for request in served(2000, 100.0, "2", 0.5):
        timeline.add(request)
    summary = summarize(timeline, seed=1, sampling_rate=0.5, seconds=140.0, problems=[])
    found = " ".join(shortcomings(summary, Script()))
    assert "1 requests failed" in found
    assert "came back to" in found


def test_a_late_answer_of_the_old_version_is_no_swap() -> None:
    timeline = Timeline()
    for version in ("1", "2", "1", "2"):
        timeline.add(Request(1.0, 2.0, version, True))
    assert [version for _, version in timeline.swaps] == ["1", "2"]


def test_accuracy_over_time_needs_enough_answers() -> None:
    assert rolling_accuracy(served(5, 0.0, "1", 1.0)) == []
    assert rolling_accuracy(served(100, 0.0, "1", 1.0)) == [(1.0, 1.0)]
