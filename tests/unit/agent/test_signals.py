from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.agent import signals
from keeptune.agent.detectors.base import ChannelShift, Finding
from keeptune.agent.signals import SignalBook
from keeptune.agent.uploads import RetuneRequester
from keeptune.runtime.clock import ManualClock
from keeptune.v1 import monitoring_pb2 as pb
from keeptune.v1.retuning_pb2 import (
    REQUEST_DECISION_COOLDOWN,
    REQUEST_DECISION_STALE,
    REQUEST_DECISION_STARTED,
    RequestRetuneRequest,
    RequestRetuneResponse,
    Retune,
)

DRIFT, LATENCY = pb.SIGNAL_KIND_DRIFT, pb.SIGNAL_KIND_LATENCY


def finding(second: int = 30, note: str = "") -> Finding:
    return Finding(
        statistic=60_000.0,
        threshold=50_000.0,
        samples=900,
        samples_since_onset=40,
        onset=datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC),
        detected=datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC),
        shifts=()
        if note
        else (
            ChannelShift("image.mean", 0.6, 0.25, 0.5, (0.3,), (0.9, 0.1), (0.1, 0.9)),
            ChannelShift("output.class", 0.2, float("nan"), float("nan"), (), (1.0,), (1.0,)),
        ),
        note=note,
    )


def test_the_same_trouble_keeps_its_id_over_restarts(tmp_path: Path) -> None:
    book = SignalBook(tmp_path, "h")
    first = book.observe("digits", 1, DRIFT, finding())
    assert first is not None
    assert first.signal.id == "h-digits-v1-drift-1767268830000"
    assert first.signal.host == "hosts/h"
    assert first.signal.version == "models/digits/versions/1"
    assert book.observe("digits", 1, DRIFT, finding(31)) is None
    again = SignalBook(tmp_path, "h")
    assert again.observe("digits", 1, DRIFT, finding(32)) is None
    assert [entry.signal.id for entry in again] == [first.signal.id]
    assert again.revision == book.revision == 1


def test_a_person_can_read_it(tmp_path: Path) -> None:
    book = SignalBook(tmp_path, "h")
    entry = book.observe("digits", 1, DRIFT, finding())
    assert entry is not None
    assert entry.signal.summary == (
        "drift on digits version 1: image.mean moved by 0.60 (mean 0.25 to 0.5); "
        "output.class moved by 0.20; since 12:00:10 UTC, in 40 samples"
    )
    assert list(entry.signal.channels[0].current) == [0.1, 0.9]
    slow = book.observe("digits", 1, LATENCY, finding(note="too slow"))
    assert slow is not None
    assert slow.signal.summary == "latency on digits version 1: too slow"


def test_only_what_a_retune_mends_is_asked_for_and_only_while_it_lasts(tmp_path: Path) -> None:
    book = SignalBook(tmp_path, "h")
    drift = book.observe("digits", 1, DRIFT, finding())
    book.observe("digits", 1, LATENCY, finding(note="too slow"))
    assert drift is not None
    assert [entry.signal.id for entry in book.wanted(0.0)] == [drift.signal.id]
    book.refused(drift.signal.id, "COOLDOWN", retry_at=100.0)
    assert book.wanted(99.0) == []
    assert len(SignalBook(tmp_path, "h").wanted(100.0)) == 1
    book.observe("digits", 1, DRIFT, None)
    assert book.wanted(100.0) == []
    # The same kind of trouble, later, is another one.
    assert book.observe("digits", 1, DRIFT, finding(59)) is not None


def test_a_granted_request_is_repeated_only_should_the_trouble_outlast_it(tmp_path: Path) -> None:
    book = SignalBook(tmp_path, "h")
    entry = book.observe("digits", 1, DRIFT, finding())
    assert entry is not None
    assert entry.request_id == entry.signal.id
    book.granted(entry.signal.id, "STARTED retunes/r", now=10.0)
    assert book.wanted(10.0 + signals.ASK_AGAIN_SECONDS - 1) == []
    kept = next(iter(SignalBook(tmp_path, "h")))
    assert (kept.granted, kept.answer, kept.active) == (1, "STARTED retunes/r", True)
    again = SignalBook(tmp_path, "h").wanted(10.0 + signals.ASK_AGAIN_SECONDS)
    assert [one.request_id for one in again] == [f"{entry.signal.id}-2"]


async def test_a_retune_refused_for_a_cooldown_is_asked_for_again_when_that_is_over(
    tmp_path: Path,
) -> None:
    asked = []
    answers = [
        RequestRetuneResponse(
            decision=REQUEST_DECISION_COOLDOWN,
            reason="the last retune ended 30 s ago",
            retry_after=Duration(seconds=570),
        ),
        RequestRetuneResponse(
            decision=REQUEST_DECISION_STARTED, retune=Retune(name="retunes/digits-2")
        ),
    ]

    class Retuning:
        async def RequestRetune(self, request: RequestRetuneRequest) -> RequestRetuneResponse:
            asked.append(request.request_id)
            return answers[len(asked) - 1]

    book = SignalBook(tmp_path, "h")
    entry = book.observe("digits", 1, DRIFT, finding())
    assert entry is not None
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    requester = RetuneRequester(cast("Any", Retuning()), book, clock, lambda: None)
    await requester.run_once()
    clock.advance(569)
    book.observe("digits", 1, DRIFT, finding(31))
    await requester.run_once()
    # Also by an agent that was started again meanwhile.
    book = SignalBook(tmp_path, "h")
    (kept,) = book
    assert kept.refused and kept.answer == "COOLDOWN: the last retune ended 30 s ago"
    assert len(asked) == 1
    clock.advance(1)
    await RetuneRequester(cast("Any", Retuning()), book, clock, lambda: None).run_once()
    assert asked == [entry.signal.id] * 2
    (kept,) = book
    assert not kept.refused and kept.answer == "STARTED retunes/digits-2"


async def test_stale_evidence_is_brought_again_much_later_if_its_version_still_serves(
    tmp_path: Path,
) -> None:
    asked = []

    class Retuning:
        async def RequestRetune(self, request: RequestRetuneRequest) -> RequestRetuneResponse:
            asked.append(request.request_id)
            return RequestRetuneResponse(decision=REQUEST_DECISION_STALE)

    book = SignalBook(tmp_path, "h")
    # Version 2 is being rolled out: the champion is still version 1.
    entry = book.observe("digits", 2, DRIFT, finding())
    assert entry is not None
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    requester = RetuneRequester(cast("Any", Retuning()), book, clock, lambda: None)
    await requester.run_once()
    clock.advance(signals.ASK_AGAIN_SECONDS - 1)
    await requester.run_once()
    assert asked == [entry.signal.id]
    clock.advance(1)
    await requester.run_once()
    assert asked == [entry.signal.id] * 2
    book.end_others("digits", 1)
    assert book.wanted(1e12) == []


def test_signals_of_versions_that_are_gone_are_over(tmp_path: Path) -> None:
    book = SignalBook(tmp_path, "h")
    book.observe("digits", 1, DRIFT, finding())
    book.observe("other", 1, DRIFT, finding())
    book.end_others("digits", 2)
    assert [(e.signal.model, e.active) for e in book] == [
        ("models/digits", False), ("models/other", True),
    ]  # fmt: skip
    assert len(book.wanted(0.0)) == 1


def test_it_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "KEPT", 5)
    book = SignalBook(tmp_path, "h")
    for version in range(1, 10):
        book.observe("digits", version, DRIFT, finding())
        book.observe("digits", version, DRIFT, None)
    assert len(list(tmp_path.glob("*.json"))) <= 6
    assert book.after(8)[0].signal.version == "models/digits/versions/9"
