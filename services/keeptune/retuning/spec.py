"""A policy's spec: defaults filled in, and what the loop reads from it."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf import json_format

from keeptune.retuning.decide import Rules
from keeptune.runtime.convert import from_duration
from keeptune.v1 import evaluation_pb2, retuning_pb2, search_pb2, training_pb2, types_pb2

# display_name of the held-out share of fresh data; gate rules may name it.
RECENT = "recent"

_TRIALS = 20
_FRESH_ROWS = 500
_FRESH_WAIT = timedelta(hours=1)
_COOLDOWN = timedelta(minutes=10)


def with_defaults(policy: retuning_pb2.Policy) -> retuning_pb2.Policy:
    """A copy in which every default that the loop owns is written out, so that people see it."""
    full = retuning_pb2.Policy()
    full.CopyFrom(policy)
    for output_only in (
        "metadata", "last_retune", "cooldown_end_time", "last_refusal", "sync_problem",
    ):  # fmt: skip
        full.ClearField(output_only)
    if not full.search.budget.max_trials and not full.search.budget.HasField("max_duration"):
        full.search.budget.max_trials = _TRIALS
    if not full.search.pruning.WhichOneof("rule"):
        full.search.pruning.forecast.SetInParent()
    if not full.search.algorithm.name:
        full.search.algorithm.name = "auto"
    if not full.gate.rules:
        full.gate.rules.append(_default_rule(full.task))
    fresh = full.data.fresh
    if fresh.enabled:
        fresh.min_rows = fresh.min_rows or _FRESH_ROWS
        if from_duration(fresh.max_wait) is None:
            fresh.max_wait.FromTimedelta(_FRESH_WAIT)
        # Fresh data is made of captures: wanting it is allowing them.
        full.monitoring.capture.enabled = True
    if not full.HasField("cooldown"):
        full.cooldown.FromTimedelta(_COOLDOWN)
    return full


def _default_rule(task: int) -> evaluation_pb2.GateRule:
    if task == int(types_pb2.TASK_REGRESSION):
        return evaluation_pb2.GateRule(metric="rmse", max_relative_regression=0.05)
    return evaluation_pb2.GateRule(metric="accuracy", max_regression=0.02)


def study_of(policy: retuning_pb2.Policy, trainer: training_pb2.Trainer) -> search_pb2.Study:
    """The study of a retune; what the policy leaves open is as the trainer recommends."""
    search = policy.search
    study = search_pb2.Study(
        space=search.space if search.HasField("space") else trainer.recommended_space,
        metrics=search.metrics or trainer.metrics[:1],
        algorithm=search.algorithm,
        budget=search.budget,
        pruning=search.pruning,
    )
    if search.HasField("seed"):
        study.seed = search.seed
    return study


def training_of(policy: retuning_pb2.Policy) -> training_pb2.Training:
    """The training of a retune, on the policy's own data."""
    return training_pb2.Training(
        trainer=policy.trainer,
        task=policy.task,
        datasets=policy.data.training,
        recipe=policy.training.recipe,
        parallelism=policy.training.parallelism,
        resources=policy.training.resources,
        engine=policy.training.engine,
        max_epochs=policy.training.max_epochs,
        seed=policy.search.seed,
    )


def dump_spec(policy: retuning_pb2.Policy) -> str:
    """The same text for the same policy."""
    return json_format.MessageToJson(policy, indent=None, sort_keys=True)


def parse_spec(text: str) -> retuning_pb2.Policy:
    """Unknown fields are passed over: a spec outlives the program that wrote it."""
    return json_format.Parse(text, retuning_pb2.Policy(), ignore_unknown_fields=True)


def rules_of(policy: retuning_pb2.Policy) -> Rules:
    fresh = policy.data.fresh
    return Rules(
        fresh=fresh.enabled,
        fresh_max_wait=from_duration(fresh.max_wait) or _FRESH_WAIT,
        require_approval=policy.require_approval,
    )


def cooldown_of(policy: retuning_pb2.Policy) -> timedelta:
    return policy.cooldown.ToTimedelta()


def gate_for(gate: evaluation_pb2.Gate, *, has_recent: bool) -> evaluation_pb2.Gate:
    """The gate of one retune: rules on the recent window need one to be judged on."""
    result = evaluation_pb2.Gate(confidence=gate.confidence)
    result.rules.extend(rule for rule in gate.rules if has_recent or rule.dataset != RECENT)
    return result
