"""The gate: from what was measured to a verdict, each rule with its evidence in numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from keeptune.evaluation.catalog import METRICS, Metric
from keeptune.evaluation.model import (
    Comparison,
    DatasetResult,
    Gate,
    GateRule,
    Judgement,
    LatencyResult,
    MetricValue,
    ModelResult,
    Outcome,
    RuleResult,
    Verdict,
)

# Rounding in the last digits of a difference must not decide.
_SLACK = 1e-9
_SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """One metric in one place, of the candidate and, where there is one, of the champion."""

    where: str
    candidate: MetricValue | None
    champion: MetricValue | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Finding:
    passed: bool
    evidence: str


def decide(gate: Gate, judgement: Judgement, *, has_champion: bool, now: datetime) -> Verdict:
    """The verdict: PASSED when every rule holds and the outputs are sound."""
    rules: list[RuleResult] = []
    broken = list(judgement.problems)
    for rule in gate.rules:
        found = check(rule, gate.confidence, judgement, has_champion)
        wrong = [finding.evidence for finding in found if not finding.passed]
        held = [finding.evidence for finding in found if finding.passed]
        rules.append(RuleResult(rule, not wrong, "; ".join([*wrong, *held])))
        broken += wrong
    if broken:
        return Verdict(Outcome.REJECTED, _in_short(broken), tuple(rules), now)
    reason = _in_short([rule.evidence for rule in rules]) or "the gate has no rules"
    return Verdict(Outcome.PASSED, reason, tuple(rules), now)


def _in_short(texts: list[str]) -> str:
    """The first few in one line; all of them stand with the rules."""
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def check(
    rule: GateRule, confidence: float, judgement: Judgement, has_champion: bool
) -> list[Finding]:
    """One rule, in every place it speaks of; it fails where nothing was measured."""
    metric = METRICS[rule.metric]
    found = [
        finding
        for reading in _readings(rule, metric, judgement)
        for finding in _check(rule, metric, reading, confidence, has_champion)
    ]
    if not found:
        place = " where ".join(part for part in (rule.dataset, rule.slice) if part)
        found = [Finding(False, f"{rule.metric} was not measured on {place or 'any dataset'}")]
    return found


def _readings(rule: GateRule, metric: Metric, judgement: Judgement) -> Iterator[Reading]:
    if not metric.per_row:
        yield Reading(
            "",
            _of_latency(metric.name, judgement.candidate_latency),
            _of_latency(metric.name, judgement.champion_latency),
        )
        return
    for result in judgement.results:
        if rule.dataset in ("", result.dataset):
            if rule.slice:
                yield from _slice_readings(rule, result)
            else:
                yield Reading(
                    f" on {result.dataset}",
                    _find(rule.metric, result.candidate.metrics),
                    _find(rule.metric, result.champion.metrics) if result.champion else None,
                    _test_of(rule.metric, result.comparisons),
                )


def _slice_readings(rule: GateRule, result: DatasetResult) -> Iterator[Reading]:
    """None for a dataset that has not the slice: another one may have it."""
    for part in result.candidate.slices:
        if part.slice == rule.slice:
            yield Reading(
                f" on {result.dataset} where {rule.slice} ({part.rows} rows)",
                _find(rule.metric, part.metrics),
                _slice_metric(rule, result.champion),
                _test_of(rule.metric, part.comparisons),
            )


def _slice_metric(rule: GateRule, model: ModelResult | None) -> MetricValue | None:
    for part in model.slices if model else ():
        if part.slice == rule.slice:
            return _find(rule.metric, part.metrics)
    return None


def _check(
    rule: GateRule, metric: Metric, reading: Reading, confidence: float, has_champion: bool
) -> Iterator[Finding]:
    value = reading.candidate
    if value is None:
        yield Finding(False, f"{metric.name}{reading.where} is not defined")
        return
    name = f"{metric.name}{reading.where} is {_number(value)}"
    if rule.min is not None:
        passed = value.value >= rule.min - _SLACK * abs(rule.min)
        yield Finding(passed, f"{name}, at least {rule.min:.6g} is asked")
    if rule.max is not None:
        passed = value.value <= rule.max + _SLACK * abs(rule.max)
        yield Finding(passed, f"{name}, at most {rule.max:.6g} is allowed")
    if not is_relative(rule):
        return
    if not has_champion:
        yield Finding(True, f"{name}; no champion, so limits against one were skipped")
        return
    if reading.champion is None:
        yield Finding(False, f"{metric.name}{reading.where} is not defined for the champion")
        return
    yield from _check_regression(rule, metric, name, value.value, reading.champion.value)
    if rule.require_improvement:
        yield _check_improvement(metric, reading, confidence)


def _check_regression(
    rule: GateRule, metric: Metric, name: str, candidate: float, champion: float
) -> Iterator[Finding]:
    worse = champion - candidate if metric.higher_is_better else candidate - champion
    side = "worse" if worse > 0 else "better"
    against = f"{name}, champion's {champion:.6g}"
    if rule.max_regression is not None:
        allowed = rule.max_regression
        passed = worse <= allowed + _SLACK * max(abs(champion), abs(allowed))
        yield Finding(passed, f"{against}: {abs(worse):.4g} {side}, {_allowance(allowed)}")
    if rule.max_relative_regression is not None:
        allowed = rule.max_relative_regression
        passed = worse <= allowed * abs(champion) + _SLACK * abs(champion)
        share = f"{abs(worse / champion):.2%}" if champion else f"{abs(worse):.4g} (of 0)"
        yield Finding(passed, f"{against}: {share} {side}, {_allowance(allowed, share=True)}")


def _check_improvement(metric: Metric, reading: Reading, confidence: float) -> Finding:
    test = reading.comparison
    if test is None:
        return Finding(False, f"no paired test of {metric.name}{reading.where}")
    better = test.difference > 0 if metric.higher_is_better else test.difference < 0
    passed = better and test.p_value <= 1 - confidence + _SLACK
    found = "improvement shown" if passed else "no improvement shown"
    return Finding(
        passed,
        f"{metric.name}{reading.where}: {found} by {test.test}, difference "
        f"{test.difference:+.4g} [{test.lower:+.4g}, {test.upper:+.4g}], p = {test.p_value:.3g} "
        f"where {1 - confidence:.3g} or less is asked",
    )


def is_relative(rule: GateRule) -> bool:
    """Whether it has a limit that needs a champion."""
    return (
        rule.max_regression is not None
        or rule.max_relative_regression is not None
        or rule.require_improvement
    )


def _allowance(allowed: float, *, share: bool = False) -> str:
    size = f"{abs(allowed):.2%}" if share else f"{abs(allowed):.4g}"
    return (
        f"at most {size} worse is allowed" if allowed >= 0 else f"at least {size} better is asked"
    )


def _number(value: MetricValue) -> str:
    if value.lower is None or value.upper is None:
        return f"{value.value:.6g}"
    return f"{value.value:.6g} [{value.lower:.4g}, {value.upper:.4g}]"


def _find(name: str, values: tuple[MetricValue, ...]) -> MetricValue | None:
    return next((value for value in values if value.metric == name), None)


def _test_of(name: str, comparisons: tuple[Comparison, ...]) -> Comparison | None:
    return next((test for test in comparisons if test.metric == name), None)


def _of_latency(name: str, latency: LatencyResult | None) -> MetricValue | None:
    if latency is None:
        return None
    value = {
        "latency_p50_ms": latency.p50_ms,
        "latency_p99_ms": latency.p99_ms,
        "size_bytes": float(latency.size_bytes),
    }[name]
    return MetricValue(name, value)
