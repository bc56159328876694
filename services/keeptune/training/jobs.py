"""What a training's worker is told to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keeptune.runtime.channel import Endpoint
from keeptune.runtime.logging import Level
from keeptune.training.allocation import Host, cores, device
from keeptune.training.engines.messages import ExportWork, FixedWork, Job, StudyWork
from keeptune.training.model import Training, TrainingState


@dataclass(frozen=True)
class Surroundings:
    """What workers need to know of this host and installation."""

    host: Host
    search: Endpoint
    artifacts_url: str
    log_level: Level


def job_for(
    name: str,
    training: Training,
    index: int,
    around: Surroundings,
    *,
    data_folder: Path,
    incarnation: str,
    give_up: tuple[str, ...],
) -> Job:
    """Of the worker `index` of the training in its present state.

    `incarnation` is new for every process; `give_up` are trials that kill their workers.
    """
    exporting = training.state is TrainingState.EXPORTING
    work: StudyWork | FixedWork | ExportWork
    if exporting:
        assert training.checkpoint is not None
        work = ExportWork(training.checkpoint.weights)
    elif training.fixed is not None:
        work = FixedWork(training.fixed)
    else:
        work = StudyWork(training.study, around.search, incarnation, give_up)
    return Job(
        worker=f"{name}/workers/{index}",
        trainer=training.trainer,
        data_folder=str(data_folder),
        artifacts_url=around.artifacts_url,
        work=work,
        epochs=training.max_epochs,
        seed=training.seed,
        recipe=training.recipe,
        device="cpu" if exporting else device(index, training.resources, around.host),
        threads=cores(training.resources),
        log_level=around.log_level,
        ids=training.ids,
    )
