"""A policy tried out, before it is taken, on the services that its retunes will ask.

Each is asked to make what a retune would, for show only; what it refuses is told by its place in
the policy. A service that is away cannot refuse: then its part fails, if it does, in the retune.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from keeptune.retuning import spec
from keeptune.retuning.peers import Peers
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import InvalidInput, KeeptuneError, NotFound, Violation
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)

T = TypeVar("T")

# How long a check may take, reading the data included; the policy is taken without it then.
_SECONDS = 10.0

# What stands where in a policy: of the prefixes of a field the first that fits.
_STUDY = {"study": "policy.search"}
_TRAINING = {
    "training.fixed.parameters": "policy.search.space",
    "training.datasets": "policy.data.training",
    "training.trainer": "policy.trainer",
    "training.task": "policy.task",
    "training": "policy.training",
}
_EVALUATION = {
    "evaluation.datasets": "policy.data.evaluation",
    "evaluation.gate": "policy.gate",
    "evaluation": "policy",
}
_ROLLOUT = {"rollout.strategy": "policy.rollout", "rollout": "policy.rollout"}


@dataclass(frozen=True)
class Checks:
    peers: Peers

    async def check(self, policy: retuning_pb2.Policy) -> None:
        """Raises InvalidInput for all that is wrong, else the first other refusal."""
        trainer = await _unless_away(self._trainer(policy))
        if trainer is None:
            return
        results = await asyncio.gather(
            self._study(policy, trainer),
            self._training(policy),
            self._evaluation(policy),
            self._rollout(policy),
            return_exceptions=True,
        )
        refusals = [result for result in results if isinstance(result, BaseException)]
        wrong = [each for each in refusals if isinstance(each, InvalidInput)]
        if wrong:
            violations = (violation for each in wrong for violation in each.violations)
            raise InvalidInput.many(violations, reason="INVALID_POLICY")
        if refusals:
            raise refusals[0]

    async def _trainer(self, policy: retuning_pb2.Policy) -> training_pb2.Trainer:
        get = training_pb2.GetTrainerRequest(name=policy.trainer)
        try:
            return await calling(self.peers.training.GetTrainer(get, timeout=_SECONDS))
        except NotFound as error:
            raise InvalidInput(
                field="policy.trainer",
                problem=f"is {policy.trainer}, which is not installed",
                fix=error.fix or "keeptune trainer list shows what is",
            ) from None

    async def _study(self, policy: retuning_pb2.Policy, trainer: training_pb2.Trainer) -> None:
        request = search_pb2.CreateStudyRequest(
            study=spec.study_of(policy, trainer), validate_only=True
        )
        await _placed(self.peers.search.CreateStudy(request, timeout=_SECONDS), _STUDY)

    async def _training(self, policy: retuning_pb2.Policy) -> None:
        training = spec.training_of(policy)
        training.fixed.CopyFrom(_corner(policy.search.space))
        request = training_pb2.CreateTrainingRequest(training=training, validate_only=True)
        await _placed(self.peers.training.CreateTraining(request, timeout=_SECONDS), _TRAINING)

    async def _evaluation(self, policy: retuning_pb2.Policy) -> None:
        evaluation = evaluation_pb2.Evaluation(
            datasets=policy.data.evaluation,
            gate=policy.gate,
            signature=types_pb2.ModelSignature(task=policy.task),
        )
        if all(each.display_name != spec.RECENT for each in evaluation.datasets):
            # Rules may name the share of fresh data that there will be; this stands for it.
            evaluation.datasets.add().CopyFrom(policy.data.evaluation[0])
            evaluation.datasets[-1].display_name = spec.RECENT
        request = evaluation_pb2.CreateEvaluationRequest(evaluation=evaluation, validate_only=True)
        call = self.peers.evaluation.CreateEvaluation(request, timeout=_SECONDS)
        await _placed(call, _EVALUATION)

    async def _rollout(self, policy: retuning_pb2.Policy) -> None:
        rollout = deployment_pb2.Rollout(strategy=policy.rollout)
        request = deployment_pb2.CreateRolloutRequest(rollout=rollout, validate_only=True)
        await _placed(self.peers.deployment.CreateRollout(request, timeout=_SECONDS), _ROLLOUT)


async def _placed(call: Awaitable[object], places: Mapping[str, str]) -> None:
    """The call; its refusal names fields of the policy."""
    try:
        await _unless_away(calling(call))
    except KeeptuneError as error:
        error.violations = tuple(_moved(error.violations, places))
        raise


async def _unless_away(call: Awaitable[T]) -> T | None:
    """None when the service cannot be asked now."""
    try:
        return await call
    except KeeptuneError as error:
        if error.retryable:
            return None
        raise


def _moved(violations: Iterable[Violation], places: Mapping[str, str]) -> Iterable[Violation]:
    for violation in violations:
        field = violation.field
        for prefix, place in places.items():
            rest = field.removeprefix(prefix)
            if rest != field and (not rest or rest[0] in ".["):
                yield replace(violation, field=f"{place}{rest}")
                break
        else:
            yield violation


def _corner(space: types_pb2.SearchSpace) -> training_pb2.FixedParameters:
    """One point of the space: whether the trainer knows the parameters, and takes their type."""
    fixed = training_pb2.FixedParameters()
    for parameter in space.parameters:
        value = fixed.parameters[parameter.name]
        match parameter.WhichOneof("domain"):
            case "float_range":
                value.double_value = parameter.float_range.min
            case "int_range":
                value.int_value = parameter.int_range.min
            case "categories" if parameter.categories.values:
                value.CopyFrom(parameter.categories.values[0])
            case "fixed":
                value.CopyFrom(parameter.fixed)
            case "graph":
                # The training service says what it thinks of graphs.
                value.graph_value.SetInParent()
            case _:
                # Nothing at all: the search service says what is wrong with it.
                del fixed.parameters[parameter.name]
    return fixed
