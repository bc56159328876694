"""What a study tells of itself, and which of its trials is best."""

from __future__ import annotations

from collections.abc import Iterable

import grpc.aio

from keeptune.runtime.artifacts import from_proto
from keeptune.runtime.calls import calling
from keeptune.training import checkpoint
from keeptune.training.convert import measurement_from_proto
from keeptune.training.decide import Best, Failure, StudyView
from keeptune.training.model import Checkpoint
from keeptune.v1 import search_pb2, search_pb2_grpc, types_pb2

_ENDED_WITHOUT_RESULT = (
    search_pb2.TRIAL_STATE_PRUNED,
    search_pb2.TRIAL_STATE_INFEASIBLE,
    search_pb2.TRIAL_STATE_FAILED,
)


class Studies:
    """Reads from SearchService. Errors are those of the call."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float = 10.0) -> None:
        self._search = search_pb2_grpc.SearchServiceStub(channel)
        self._timeout = timeout

    async def get(self, study: str) -> search_pb2.Study:
        request = search_pb2.GetStudyRequest(name=study)
        return await calling(self._search.GetStudy(request, timeout=self._timeout))

    async def view(self, study: str) -> StudyView:
        found = await self.get(study)
        counts = found.trial_counts
        return StudyView(
            active=found.state == search_pb2.STUDY_STATE_ACTIVE,
            stopped=found.state == search_pb2.STUDY_STATE_STOPPED,
            running=counts.running,
            waiting=counts.waiting,
            completed=counts.completed,
            done=counts.completed + counts.pruned + counts.infeasible + counts.failed,
        )

    async def best(self, study: str, trainer: str) -> Best | Failure:
        """The best completed trial with a checkpoint.

        Of several optimal trials the one that is best by the first objective. Trials without a
        checkpoint, such as imported ones, cannot be exported and are passed over.
        """
        found = await self.get(study)
        objective = _first_objective(found)
        optimal = await calling(
            self._search.ListOptimalTrials(
                search_pb2.ListOptimalTrialsRequest(parent=study), timeout=self._timeout
            )
        )
        if best := _pick(optimal.trials, objective):
            return best
        downward = " desc" if objective.goal == types_pb2.GOAL_MAXIMIZE else ""
        token = ""
        while True:
            page = await calling(
                self._search.ListTrials(
                    search_pb2.ListTrialsRequest(
                        parent=study,
                        filter='state = "COMPLETED"',
                        order_by=f"metrics.{objective.name}{downward}",
                        page_token=token,
                    ),
                    timeout=self._timeout,
                )
            )
            if best := _pick(page.trials, objective):
                return best
            token = page.next_page_token
            if not token:
                return await self._nothing(found, trainer)

    async def _nothing(self, study: search_pb2.Study, trainer: str) -> Failure:
        counts = study.trial_counts
        if counts.completed:
            return Failure(
                f"none of the {counts.completed} completed trials of {study.name} has a "
                f"checkpoint of {trainer}",
                "let a training run trials of the study, or use the workers' own models",
            )
        trials = await calling(
            self._search.ListTrials(
                search_pb2.ListTrialsRequest(parent=study.name, page_size=1000),
                timeout=self._timeout,
            )
        )
        reasons = [
            trial.reason
            for trial in trials.trials
            if trial.reason and trial.state in _ENDED_WITHOUT_RESULT
        ]
        last = f"; the last because {reasons[-1]}" if reasons else ""
        return Failure(
            f"no trial of {study.name} was completed: {counts.pruned} pruned, "
            f"{counts.infeasible} infeasible, {counts.failed} failed{last}",
            "narrow the search space to what the trainer recommends, or give a larger budget",
        )


def _first_objective(study: search_pb2.Study) -> search_pb2.Metric:
    roles = (search_pb2.METRIC_ROLE_OBJECTIVE, search_pb2.METRIC_ROLE_UNSPECIFIED)
    return next(metric for metric in study.metrics if metric.role in roles)


def _pick(trials: Iterable[search_pb2.Trial], objective: search_pb2.Metric) -> Best | None:
    sign = -1.0 if objective.goal == types_pb2.GOAL_MAXIMIZE else 1.0
    able = [trial for trial in trials if _weights(trial) is not None]
    if not able:
        return None
    trial = min(able, key=lambda each: sign * each.final_measurement.metrics[objective.name])
    weights = _weights(trial)
    assert weights is not None
    return Best(
        Checkpoint(from_proto(weights), trial.name),
        measurement_from_proto(trial.final_measurement),
    )


def _weights(trial: search_pb2.Trial) -> types_pb2.Artifact | None:
    return next((a for a in trial.artifacts if a.media_type == checkpoint.MEDIA_TYPE), None)
