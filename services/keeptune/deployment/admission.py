"""Whether a version may be rolled out: an evaluation must have judged this artifact, and passed."""

from __future__ import annotations

from keeptune.deployment.model import Version
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, NotFound
from keeptune.v1 import evaluation_pb2, evaluation_pb2_grpc

_FIELD = "rollout.evaluation"


async def check_passed(
    evaluations: evaluation_pb2_grpc.EvaluationServiceAsyncStub,
    name: str,
    version_name: str,
    version: Version,
) -> None:
    """Asks the evaluation service.

    Raises NotFound for an unknown evaluation, InvalidInput for one of another artifact,
    FailedPrecondition for one that has not passed, Unavailable when it cannot be asked.
    """
    if not name:
        raise InvalidInput(
            field=_FIELD, problem="is empty", fix="name the evaluation that passed this version"
        )
    try:
        evaluation = await calling(
            evaluations.GetEvaluation(evaluation_pb2.GetEvaluationRequest(name=name))
        )
    except NotFound:
        raise NotFound(
            f"{name} does not exist", field=_FIELD, fix="name the evaluation of this version"
        ) from None
    if evaluation.candidate.sha256 != version.onnx.sha256:
        raise InvalidInput(
            field=_FIELD,
            problem=f"judged the artifact {evaluation.candidate.sha256[:12]}..., but "
            f"{version_name} has {version.onnx.sha256[:12]}...",
            fix="evaluate this version's artifact, and name that evaluation",
            reason="EVALUATION_OF_ANOTHER_ARTIFACT",
        )
    if evaluation.verdict.outcome != evaluation_pb2.VERDICT_OUTCOME_PASSED:
        raise FailedPrecondition(
            f"{name} has not passed its gate: {_why_not(evaluation)}",
            field=_FIELD,
            fix="wait for its verdict, or register a better version",
            reason="GATE_NOT_PASSED",
            metadata={"evaluation": name},
        )


def _why_not(evaluation: evaluation_pb2.Evaluation) -> str:
    if evaluation.HasField("verdict"):
        return evaluation.verdict.reason or "it was rejected"
    state = evaluation_pb2.EvaluationState.Name(evaluation.state)
    return evaluation.reason or f"it is {state.removeprefix('EVALUATION_STATE_')}"
