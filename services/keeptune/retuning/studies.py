"""The study of a retune, which learns from the model's earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from keeptune.runtime.calls import calling
from keeptune.runtime.errors import InvalidInput, NotFound
from keeptune.v1 import search_pb2

if TYPE_CHECKING:
    from keeptune.retuning.peers import Made, Peers

log = structlog.get_logger()

# The latest with results; older ones tell less of the data as it is.
_EARLIER = 3
_LOOKED_AT = 20
_FIELD = "study.warm_start"


async def ensure_study(made: Made, study: search_pb2.Study, peers: Peers) -> None:
    """Makes it, unless an earlier try of this step has.

    What was there to learn from may have changed between two tries, so that a second request
    would be another one.
    """
    asked = search_pb2.GetStudyRequest(name=made.study)
    try:
        await calling(peers.search.GetStudy(asked))
    except NotFound:
        earlier = await _earlier(made, study.labels["model"], peers)
        await _create(made, study, earlier, peers)


async def _earlier(made: Made, model: str, peers: Peers) -> list[str]:
    """Studies of the model's retunes with results, the latest first."""
    answer = await calling(
        peers.search.ListStudies(
            search_pb2.ListStudiesRequest(
                filter=f'labels.model = "{model}"',
                order_by="create_time desc",
                page_size=_LOOKED_AT,
            )
        )
    )
    return [
        study.name
        for study in answer.studies
        if study.trial_counts.completed and study.name != made.study
    ][:_EARLIER]


async def _create(made: Made, study: search_pb2.Study, earlier: list[str], peers: Peers) -> None:
    """Without those of which nothing means anything here: another space, another metric."""
    study.warm_start[:] = earlier
    request = search_pb2.CreateStudyRequest(
        request_id=made.request_id("study"), study_id=made.id, study=study
    )
    try:
        await calling(peers.search.CreateStudy(request))
    except InvalidInput as refused:
        useless = [name for i, name in enumerate(earlier) if _blames(refused, i)]
        if not useless:
            raise
        log.info("nothing to learn from", retune=made.id, studies=useless, reason=str(refused))
        await _create(made, study, [name for name in earlier if name not in useless], peers)


def _blames(refused: InvalidInput, index: int) -> bool:
    return any(violation.field == f"{_FIELD}[{index}]" for violation in refused.violations)
