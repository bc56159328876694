"""Requests about the same trouble become one retune; the rest wait or are told why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from keeptune.retuning.admission import Admission, Answer, admit
from keeptune.retuning.model import Evidence, Policy, Retune, RetuneState, Trigger, begin

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(model="models/m", spec="{}", cooldown=timedelta(minutes=10))
V1, V2 = "models/m/versions/1", "models/m/versions/2"


def evidence(version: str, signal: str = "s1", onset: datetime | None = NOW) -> Evidence:
    return Evidence(signal, "hosts/h", version, onset, "inputs moved", "{}")


def ended(ago: timedelta) -> Retune:
    retune = begin("policies/p", POLICY, Trigger.SIGNAL, NOW - timedelta(hours=1))
    return retune.become(RetuneState.SUCCEEDED, NOW - ago, "done")


def ask(
    *,
    open_retune: str = "",
    last: Retune | None = None,
    seen: tuple[Evidence, ...] = (),
    champion: str | None = V1,
    force: bool = False,
) -> Answer:
    return admit(
        POLICY,
        open_retune=open_retune,
        last=last,
        evidence=seen,
        champion=champion,
        force=force,
        now=NOW,
    )


def test_a_request_starts_a_retune() -> None:
    assert ask(seen=(evidence(V1),)).admission is Admission.STARTED


def test_a_request_during_a_retune_joins_it() -> None:
    answer = ask(open_retune="retunes/p-1", seen=(evidence(V1),))
    assert answer.admission is Admission.JOINED
    assert "retunes/p-1" in answer.reason


def test_the_cooldown_tells_when_to_ask_again() -> None:
    answer = ask(last=ended(timedelta(minutes=4)), seen=(evidence(V1),))
    assert answer.admission is Admission.COOLDOWN
    assert answer.retry_after == timedelta(minutes=6)
    assert ask(last=ended(timedelta(minutes=4)), force=True).admission is Admission.STARTED
    assert ask(last=ended(timedelta(minutes=10))).admission is Admission.STARTED


def test_evidence_about_a_version_that_is_gone_is_stale() -> None:
    answer = ask(seen=(evidence(V1),), champion=V2)
    assert answer.admission is Admission.STALE
    assert V2 in answer.reason


def test_evidence_counts_when_the_registry_cannot_be_asked() -> None:
    assert ask(seen=(evidence(V1),), champion=None).admission is Admission.STARTED


def test_joining_adds_each_signal_once_and_keeps_the_earliest_onset() -> None:
    retune = begin("policies/p", POLICY, Trigger.SIGNAL, NOW, evidence=(evidence(V1),))
    earlier = evidence(V1, "s2", NOW - timedelta(minutes=1))
    joined = retune.join((evidence(V1), earlier)).join((earlier,))
    assert [item.signal for item in joined.evidence] == ["s1", "s2"]
    assert joined.onset == NOW - timedelta(minutes=1)
    assert replace(joined, evidence=()).onset is None
