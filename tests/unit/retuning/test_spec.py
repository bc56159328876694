"""Defaults of a policy and what of its gate applies."""

from __future__ import annotations

from datetime import timedelta

from keeptune.retuning import spec as specs
from keeptune.v1 import retuning_pb2, types_pb2


def policy() -> retuning_pb2.Policy:
    result = retuning_pb2.Policy(
        model="models/m", trainer="trainers/image", task=types_pb2.TASK_CLASSIFICATION
    )
    result.data.training.add(uri="/train.npz")
    result.data.evaluation.add(uri="/test.npz")
    return result


def test_defaults_are_written_out() -> None:
    full = specs.with_defaults(policy())
    assert full.search.budget.max_trials == 20
    assert full.search.pruning.WhichOneof("rule") == "forecast"
    assert full.search.algorithm.name == "auto"
    assert specs.cooldown_of(full) == timedelta(minutes=10)
    assert [rule.metric for rule in full.gate.rules] == ["accuracy"]
    assert not full.monitoring.capture.enabled


def test_a_cooldown_of_zero_stays_zero() -> None:
    given = policy()
    given.cooldown.SetInParent()
    assert specs.cooldown_of(specs.with_defaults(given)) == timedelta(0)


def test_wanting_fresh_data_allows_captures() -> None:
    given = policy()
    given.data.fresh.enabled = True
    full = specs.with_defaults(given)
    assert full.monitoring.capture.enabled
    assert full.data.fresh.min_rows == 500
    assert specs.rules_of(full).fresh_max_wait == timedelta(hours=1)


def test_a_spec_survives_the_store() -> None:
    full = specs.with_defaults(policy())
    assert specs.parse_spec(specs.dump_spec(full)) == full


def test_rules_on_recent_data_need_recent_data() -> None:
    given = policy()
    given.gate.rules.add(metric="accuracy", dataset="recent", min=0.9)
    given.gate.rules.add(metric="accuracy", min=0.8)
    assert len(specs.gate_for(given.gate, has_recent=True).rules) == 2
    assert [r.min for r in specs.gate_for(given.gate, has_recent=False).rules] == [0.8]
