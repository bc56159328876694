"""Reads what the other services say about a retune's training, evaluation and rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keeptune.retuning.decide import Progress, Seen, World
from keeptune.retuning.model import RetuneState
from keeptune.retuning.peers import Made
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import NotFound
from keeptune.v1 import deployment_pb2, evaluation_pb2, training_pb2

if TYPE_CHECKING:
    from keeptune.retuning.model import Retune
    from keeptune.retuning.peers import Peers

_TRAINING = {
    training_pb2.TRAINING_STATE_PENDING: Progress.UNDER_WAY,
    training_pb2.TRAINING_STATE_RUNNING: Progress.UNDER_WAY,
    training_pb2.TRAINING_STATE_EXPORTING: Progress.LATE,
    training_pb2.TRAINING_STATE_SUCCEEDED: Progress.DONE,
    training_pb2.TRAINING_STATE_FAILED: Progress.BROKEN,
    training_pb2.TRAINING_STATE_CANCELLED: Progress.BROKEN,
}
_ROLLOUT = {
    deployment_pb2.ROLLOUT_STATE_PENDING: Progress.UNDER_WAY,
    deployment_pb2.ROLLOUT_STATE_ROLLING_OUT: Progress.UNDER_WAY,
    deployment_pb2.ROLLOUT_STATE_PAUSED: Progress.UNDER_WAY,
    deployment_pb2.ROLLOUT_STATE_ROLLING_BACK: Progress.UNDER_WAY,
    deployment_pb2.ROLLOUT_STATE_BAKING: Progress.LATE,
    deployment_pb2.ROLLOUT_STATE_SUCCEEDED: Progress.DONE,
    deployment_pb2.ROLLOUT_STATE_ROLLED_BACK: Progress.UNDONE,
    deployment_pb2.ROLLOUT_STATE_FAILED: Progress.BROKEN,
}


async def observe(name: str, retune: Retune, peers: Peers) -> World:
    """The world as far as the retune's present state needs it.

    A cancelled retune looks at everything that may have been made, even by a step whose outcome
    was never written down. Raises KeeptuneError when a service cannot be read.
    """
    made = Made(name)
    cancelling = bool(retune.cancel_requested)
    world = World()
    if cancelling or retune.state in (RetuneState.ROLLING_OUT, RetuneState.BAKING):
        world = World(rollout=await _rollout(made, peers))
        if world.rollout is not None or not cancelling:
            return world
    if cancelling or retune.state in (RetuneState.SEARCHING, RetuneState.COMPRESSING):
        return World(training=await _training(made, peers))
    if retune.state is RetuneState.EVALUATING and retune.evaluation:
        return World(evaluation=await _evaluation(made, peers))
    return world


async def _training(made: Made, peers: Peers) -> Seen | None:
    try:
        training = await calling(
            peers.training.GetTraining(training_pb2.GetTrainingRequest(name=made.training))
        )
    except NotFound:
        return None
    progress = _TRAINING[training.state]
    reason = training.reason
    if progress is Progress.UNDER_WAY:
        reason = f"{training.trials_done} trials done"
        if training.best_trial:
            metrics = training.best_measurement.metrics
            reason += ", best " + ", ".join(f"{k} {metrics[k]:.4g}" for k in sorted(metrics))
    return Seen(progress, reason, training.next_step)


async def _evaluation(made: Made, peers: Peers) -> Seen | None:
    try:
        evaluation = await calling(
            peers.evaluation.GetEvaluation(
                evaluation_pb2.GetEvaluationRequest(name=made.evaluation)
            )
        )
    except NotFound:
        return None
    verdict = evaluation.verdict
    match evaluation.state:
        case evaluation_pb2.EVALUATION_STATE_SUCCEEDED:
            if verdict.outcome == evaluation_pb2.VERDICT_OUTCOME_PASSED:
                return Seen(Progress.DONE, f"the gate passed: {verdict.reason}")
            return Seen(
                Progress.REFUSED,
                f"the gate rejected the candidate: {verdict.reason}",
                f"keeptune evaluation show {made.evaluation}",
            )
        case evaluation_pb2.EVALUATION_STATE_FAILED:
            return Seen(Progress.BROKEN, evaluation.reason, evaluation.next_step)
        case _:
            return Seen(Progress.UNDER_WAY, "the candidate is being judged")


async def _rollout(made: Made, peers: Peers) -> Seen | None:
    try:
        rollout = await calling(
            peers.deployment.GetRollout(deployment_pb2.GetRolloutRequest(name=made.rollout))
        )
    except NotFound:
        return None
    return Seen(_ROLLOUT[rollout.state], rollout.reason, rollout.next_step)
