"""The gate: every kind of limit, what the evidence says, and properties that must always hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation import gate, rules
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
    SliceResult,
    Verdict,
)
from keeptune.v1 import types_pb2

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def model(accuracy: float, loss: float, night: float | None = None) -> ModelResult:
    metrics = (
        MetricValue("accuracy", accuracy, accuracy - 0.05, 1.0),
        MetricValue("log_loss", loss),
    )
    slices = ()
    if night is not None:
        slices = (SliceResult("light=night", 40, (MetricValue("accuracy", night),)),)
    return ModelResult(metrics, slices)


def paired(p_value: float, difference: float) -> Comparison:
    return Comparison("accuracy", "mcnemar-exact", difference, difference - 1, 1.0, p_value, 9, 1)


JUDGEMENT = Judgement(
    results=(
        DatasetResult("held-out", 200, model(0.95, 0.2, 0.9), model(0.93, 0.1, 0.94),
                      (paired(0.02, 0.02),)),
        DatasetResult("recent", 100, model(0.80, 0.5), model(0.85, 0.4), (paired(0.3, -0.05),)),
    ),
    candidate_latency=LatencyResult(1.0, 4.0, 1, 100, 2000),
    champion_latency=LatencyResult(1.0, 2.0, 1, 100, 1000),
)  # fmt: skip
ALONE = replace(
    JUDGEMENT,
    results=tuple(replace(r, champion=None, comparisons=()) for r in JUDGEMENT.results),
    champion_latency=None,
)


def judged(*given: GateRule, judgement: Judgement = JUDGEMENT) -> Verdict:
    has_champion = judgement.champion_latency is not None
    return gate.decide(Gate(given, 0.95), judgement, has_champion=has_champion, now=NOW)


@pytest.mark.parametrize(
    ("rule", "passed", "evidence"),
    [
        (
            GateRule("accuracy", "held-out", min=0.9),
            True,
            "accuracy on held-out is 0.95 [0.9, 1], at least 0.9 is asked",
        ),
        (
            GateRule("accuracy", min=0.9),
            False,
            ("accuracy on recent is 0.8 [0.75, 1], at least 0.9 is asked; "
            "accuracy on held-out is 0.95 [0.9, 1], at least 0.9 is asked"),
        ),
        (
            GateRule("log_loss", "recent", max=0.5),
            True,
            "log_loss on recent is 0.5, at most 0.5 is allowed",
        ),
        (
            GateRule("accuracy", "recent", max_regression=0.05),
            True,
            ("accuracy on recent is 0.8 [0.75, 1], champion's 0.85: 0.05 worse, "
            "at most 0.05 worse is allowed"),
        ),
        (
            GateRule("accuracy", "recent", max_regression=0.04),
            False,
            ("accuracy on recent is 0.8 [0.75, 1], champion's 0.85: 0.05 worse, "
            "at most 0.04 worse is allowed"),
        ),
        (
            GateRule("accuracy", "held-out", max_regression=-0.03),
            False,
            ("accuracy on held-out is 0.95 [0.9, 1], champion's 0.93: 0.02 better, "
            "at least 0.03 better is asked"),
        ),
        (
            GateRule("log_loss", "held-out", max_relative_regression=0.5),
            False,
            ("log_loss on held-out is 0.2, champion's 0.1: 100.00% worse, "
            "at most 50.00% worse is allowed"),
        ),
        (
            GateRule("latency_p99_ms", max_relative_regression=1.0),
            True,
            "latency_p99_ms is 4, champion's 2: 100.00% worse, at most 100.00% worse is allowed",
        ),
        (
            GateRule("size_bytes", max=1999),
            False,
            "size_bytes is 2000, at most 1999 is allowed",
        ),
        (
            GateRule("accuracy", slice="light=night", max_regression=0.0),
            False,
            ("accuracy on held-out where light=night (40 rows) is 0.9, champion's 0.94: "
            "0.04 worse, at most 0 worse is allowed"),
        ),
        (
            GateRule("accuracy", "recent", slice="light=night", min=0.1),
            False,
            "accuracy was not measured on recent where light=night",
        ),
        (
            GateRule("f1", "recent", min=0.1),
            False,
            "f1 on recent is not defined",
        ),
        (
            GateRule("accuracy", "held-out", require_improvement=True),
            True,
            ("accuracy on held-out: improvement shown by mcnemar-exact, difference "
            "+0.02 [-0.98, +1], p = 0.02 where 0.05 or less is asked"),
        ),
        (
            GateRule("accuracy", "recent", require_improvement=True),
            False,
            ("accuracy on recent: no improvement shown by mcnemar-exact, difference "
            "-0.05 [-1.05, +1], p = 0.3 where 0.05 or less is asked"),
        ),
    ],
)  # fmt: skip
def test_rules(rule: GateRule, passed: bool, evidence: str) -> None:
    verdict = judged(rule)
    assert verdict.outcome is (Outcome.PASSED if passed else Outcome.REJECTED)
    assert verdict.rules[0].passed is passed
    assert verdict.rules[0].evidence == evidence
    assert verdict.decide_time == NOW


def test_a_significant_loss_is_no_improvement() -> None:
    worse = replace(JUDGEMENT.results[0], comparisons=(paired(0.001, -0.1),))
    verdict = judged(
        GateRule("accuracy", require_improvement=True),
        judgement=replace(JUDGEMENT, results=(worse,)),
    )
    assert verdict.outcome is Outcome.REJECTED


def test_without_a_champion_relative_limits_are_skipped_and_it_says_so() -> None:
    verdict = judged(
        GateRule("accuracy", "recent", max_regression=0.0, require_improvement=True),
        judgement=ALONE,
    )
    assert verdict.outcome is Outcome.PASSED
    assert "no champion, so limits against one were skipped" in verdict.reason
    absolute = judged(GateRule("accuracy", min=0.9, max_regression=0.0), judgement=ALONE)
    assert absolute.outcome is Outcome.REJECTED


def test_unsound_outputs_are_rejected_whatever_the_rules() -> None:
    verdict = judged(judgement=replace(JUDGEMENT, problems=("3 rows are NaN",)))
    assert verdict.outcome is Outcome.REJECTED
    assert verdict.reason == "3 rows are NaN"


def test_no_rules_pass() -> None:
    assert judged().outcome is Outcome.PASSED
    assert judged().reason == "the gate has no rules"


def test_nan_never_passes() -> None:
    results = (DatasetResult("d", 3, ModelResult((MetricValue("rmse", float("nan")),))),)
    nan = replace(ALONE, results=results)
    assert judged(GateRule("rmse", max=1.0), judgement=nan).outcome is Outcome.REJECTED


numbers = st.floats(-1e3, 1e3)
limits = st.none() | numbers
any_rule = st.builds(
    GateRule,
    metric=st.sampled_from(["accuracy", "log_loss"]),
    dataset=st.sampled_from(["", "held-out", "recent"]),
    min=limits,
    max=limits,
    max_regression=limits,
    max_relative_regression=limits,
    require_improvement=st.booleans(),
)


@given(st.lists(any_rule, max_size=5))
def test_passed_means_that_every_rule_passed(given_rules: list[GateRule]) -> None:
    verdict = judged(*given_rules)
    assert (verdict.outcome is Outcome.PASSED) == all(r.passed for r in verdict.rules)
    assert [r.rule for r in verdict.rules] == given_rules


@given(st.lists(any_rule, max_size=3), any_rule)
def test_another_rule_never_helps(given_rules: list[GateRule], more: GateRule) -> None:
    if judged(*given_rules).outcome is Outcome.REJECTED:
        assert judged(*given_rules, more).outcome is Outcome.REJECTED


@given(any_rule, st.sampled_from(["min", "max", "max_regression", "max_relative_regression"]),
       st.floats(0, 1e3))  # fmt: skip
def test_a_tighter_limit_never_helps(rule: GateRule, name: str, by: float) -> None:
    limit = getattr(rule, name)
    if limit is None:
        return
    tighter = replace(rule, **{name: limit + by if name == "min" else limit - by})
    if judged(rule).outcome is Outcome.REJECTED:
        assert judged(tighter).outcome is Outcome.REJECTED


@given(any_rule)
def test_a_rule_for_every_dataset_is_the_rules_for_each(rule: GateRule) -> None:
    everywhere = judged(replace(rule, dataset=""))
    each = judged(replace(rule, dataset="held-out"), replace(rule, dataset="recent"))
    assert everywhere.outcome == each.outcome


@given(numbers, st.floats(0, 1e3), st.floats(0, 10))
def test_the_champion_itself_always_holds_against_the_champion(
    value: float, absolute: float, relative: float
) -> None:
    same = ModelResult((MetricValue("log_loss", value),))
    judgement = replace(JUDGEMENT, results=(DatasetResult("d", 9, same, same),))
    rule = GateRule("log_loss", max_regression=absolute, max_relative_regression=relative)
    assert judged(rule, judgement=judgement).outcome is Outcome.PASSED


# --- rules.problems: what is refused before anything is judged ---

DATASETS = {"held-out": ["light"], "recent": []}


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        (GateRule("acuracy", min=1), "metric", "did you mean accuracy?"),
        (GateRule("rmse", max=1), "metric", "not measured for this task"),
        (GateRule("accuracy", "heldout", min=1), "dataset", "did you mean held-out?"),
        (GateRule("accuracy", "recent", "light=night", min=1), "slice", "slice_columns"),
        (GateRule("accuracy", slice="lihgt=night", min=1), "slice", "did you mean light?"),
        (GateRule("accuracy", slice="light", min=1), "slice", "column=value"),
        (GateRule("latency_p99_ms", "recent", max=1), "dataset", "once for the model"),
        (GateRule("f1", require_improvement=True), "require_improvement", "accuracy, log_loss"),
        (GateRule("accuracy"), "", "has no limit"),
        (GateRule("accuracy", min=0.9, max=0.8), "min", "above max"),
        (GateRule("accuracy", min=float("nan")), "min", "finite"),
    ],
)
def test_senseless_rules(rule: GateRule, field: str, words: str) -> None:
    fine = GateRule("accuracy", "held-out", "light=night", min=0.5)
    found = list(
        rules.problems(
            Gate((fine, rule)), DATASETS, types_pb2.TASK_CLASSIFICATION, "evaluation.gate"
        )
    )
    assert len(found) == 1
    expected = "evaluation.gate.rules[1]" + (f".{field}" if field else "")
    assert found[0].field == expected
    assert words in str(found[0])
