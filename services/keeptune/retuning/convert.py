"""Protobuf to model and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format

from keeptune.retuning import spec as specs
from keeptune.retuning.model import Evidence
from keeptune.runtime.convert import from_timestamp, metadata, to_timestamp
from keeptune.v1 import monitoring_pb2, retuning_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from keeptune.retuning.model import Policy, Retune
    from keeptune.runtime.records import Record


def evidence_of(signals: Iterable[monitoring_pb2.Signal]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            signal=signal.id,
            host=signal.host,
            version=signal.version,
            onset=from_timestamp(signal.onset_time) or from_timestamp(signal.detect_time),
            summary=signal.summary,
            body=json_format.MessageToJson(signal, indent=None),
        )
        for signal in signals
    )


def policy_message(
    record: Record[Policy], *, last: Retune | None, now: datetime
) -> retuning_pb2.Policy:
    """The policy as it stands `now`; `last` is its newest retune."""
    policy = specs.parse_spec(record.doc.spec)
    policy.name = record.name
    policy.metadata.CopyFrom(metadata(record))
    policy.last_retune = record.doc.last_retune
    policy.sync_problem = record.doc.sync_problem
    until = record.doc.cooldown_end(last)
    if until is not None and until > now:
        policy.cooldown_end_time.FromDatetime(until)
    if (refusal := record.doc.refusal) is not None:
        policy.last_refusal.CopyFrom(
            retuning_pb2.RetuneRefusal(
                time=to_timestamp(refusal.time),
                decision=decision_number(refusal.decision),
                reason=refusal.reason,
                note=refusal.note,
            )
        )
    return policy


def decision_number(decision: str) -> retuning_pb2.RequestDecision.ValueType:
    """Of the word that the admission has for it."""
    return retuning_pb2.RequestDecision.Value(f"REQUEST_DECISION_{decision}")


def retune_message(record: Record[Retune]) -> retuning_pb2.Retune:
    retune = record.doc
    message = retuning_pb2.Retune(
        name=record.name,
        policy=retune.policy,
        model=retune.model,
        trigger=retuning_pb2.TriggerKind.Value(f"TRIGGER_KIND_{retune.trigger.value}"),
        evidence=[
            json_format.Parse(item.body, monitoring_pb2.Signal(), ignore_unknown_fields=True)
            for item in retune.evidence
        ],
        note=retune.note,
        state=retuning_pb2.RetuneState.Value(f"RETUNE_STATE_{retune.state.value}"),
        reason=retune.reason,
        next_step=retune.next_step,
        metadata=metadata(record),
        end_time=to_timestamp(retune.end_time),
        history=[
            retuning_pb2.RetuneTransition(
                state=retuning_pb2.RetuneState.Value(f"RETUNE_STATE_{step.state.value}"),
                time=to_timestamp(step.time),
                reason=step.reason,
            )
            for step in retune.history
        ],
        study=retune.study,
        training=retune.training,
        evaluation=retune.evaluation,
        version=retune.version,
        rollout=retune.rollout,
        champion=retune.champion,
    )
    if retune.fresh is not None:
        json_format.Parse(retune.fresh.body, message.fresh, ignore_unknown_fields=True)
    return message
