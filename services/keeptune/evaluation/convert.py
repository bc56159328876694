"""Protobuf to model and back."""

from __future__ import annotations

from collections.abc import Iterable

from keeptune.evaluation.model import (
    DEFAULT_CONFIDENCE,
    Comparison,
    DatasetResult,
    Evaluation,
    Gate,
    GateRule,
    LatencyResult,
    MetricValue,
    ModelResult,
    RuleResult,
    SliceResult,
    Verdict,
)
from keeptune.runtime.artifacts import to_proto
from keeptune.runtime.convert import metadata, to_timestamp
from keeptune.runtime.records import Record
from keeptune.v1 import evaluation_pb2 as pb


def gate_of(message: pb.Gate) -> Gate:
    """With the default confidence where none is given."""
    return Gate(
        rules=tuple(_rule_of(rule) for rule in message.rules),
        confidence=message.confidence or DEFAULT_CONFIDENCE,
    )


def _rule_of(message: pb.GateRule) -> GateRule:
    return GateRule(
        metric=message.metric,
        dataset=message.dataset,
        slice=message.slice,
        min=message.min if message.HasField("min") else None,
        max=message.max if message.HasField("max") else None,
        max_regression=message.max_regression if message.HasField("max_regression") else None,
        max_relative_regression=(
            message.max_relative_regression if message.HasField("max_relative_regression") else None
        ),
        require_improvement=message.require_improvement,
    )


def evaluation_message(record: Record[Evaluation], *, slices: bool = True) -> pb.Evaluation:
    """`slices=False` leaves out the results' slices, which may be many."""
    doc = record.doc
    message = pb.Evaluation(
        name=record.name,
        candidate=to_proto(doc.candidate),
        champion=to_proto(doc.champion) if doc.champion else None,
        signature=doc.signature,
        datasets=doc.datasets,
        gate=pb.Gate(rules=map(_rule, doc.gate.rules), confidence=doc.gate.confidence),
        profile_dataset=doc.profile_dataset,
        latency_batch_size=doc.latency_batch_size,
        labels=record.labels,
        state=pb.EvaluationState.Value(f"EVALUATION_STATE_{doc.state}"),
        reason=doc.reason,
        next_step=doc.next_step,
        metadata=metadata(record),
        end_time=to_timestamp(doc.end_time),
        verdict=_verdict(doc.verdict) if doc.verdict else None,
        reference_profile=to_proto(doc.reference_profile) if doc.reference_profile else None,
    )
    if doc.judgement is not None:
        message.results.extend(_dataset(result, slices) for result in doc.judgement.results)
        message.candidate_latency.CopyFrom(_latency(doc.judgement.candidate_latency))
        if doc.judgement.champion_latency is not None:
            message.champion_latency.CopyFrom(_latency(doc.judgement.champion_latency))
    return message


def _rule(rule: GateRule) -> pb.GateRule:
    return pb.GateRule(
        metric=rule.metric,
        dataset=rule.dataset,
        slice=rule.slice,
        min=rule.min,
        max=rule.max,
        max_regression=rule.max_regression,
        max_relative_regression=rule.max_relative_regression,
        require_improvement=rule.require_improvement,
    )


def _metrics(values: Iterable[MetricValue]) -> list[pb.MetricValue]:
    return [
        pb.MetricValue(metric=v.metric, value=v.value, lower=v.lower, upper=v.upper) for v in values
    ]


def _comparison(test: Comparison) -> pb.Comparison:
    return pb.Comparison(
        metric=test.metric,
        test=test.test,
        difference=test.difference,
        lower=test.lower,
        upper=test.upper,
        p_value=test.p_value,
        candidate_only_right=test.candidate_only_right,
        champion_only_right=test.champion_only_right,
    )


def _slice(part: SliceResult) -> pb.SliceResult:
    return pb.SliceResult(
        slice=part.slice,
        rows=part.rows,
        metrics=_metrics(part.metrics),
        comparisons=map(_comparison, part.comparisons),
    )


def _model(result: ModelResult, slices: bool) -> pb.ModelResult:
    return pb.ModelResult(
        metrics=_metrics(result.metrics),
        slices=map(_slice, result.slices if slices else ()),
    )


def _dataset(result: DatasetResult, slices: bool) -> pb.DatasetResult:
    first, further = result.comparisons[:1], result.comparisons[1:]
    return pb.DatasetResult(
        dataset=result.dataset,
        rows=result.rows,
        candidate=_model(result.candidate, slices),
        champion=_model(result.champion, slices) if result.champion else None,
        comparison=_comparison(first[0]) if first else None,
        further_comparisons=map(_comparison, further),
    )


def _latency(latency: LatencyResult) -> pb.LatencyResult:
    return pb.LatencyResult(
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
        batch_size=latency.batch_size,
        runs=latency.runs,
        size_bytes=latency.size_bytes,
    )


def _rule_result(result: RuleResult) -> pb.RuleResult:
    return pb.RuleResult(rule=_rule(result.rule), passed=result.passed, evidence=result.evidence)


def _verdict(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        outcome=pb.VerdictOutcome.Value(f"VERDICT_OUTCOME_{verdict.outcome}"),
        reason=verdict.reason,
        rules=map(_rule_result, verdict.rules),
        decide_time=to_timestamp(verdict.decide_time),
    )
