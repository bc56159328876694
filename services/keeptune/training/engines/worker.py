"""What a forked worker does: the trials of a study, one fixed run, or an export."""

from __future__ import annotations

import random
import socket
import zlib
from pathlib import Path

import numpy as np
import structlog

from keeptune.runtime import logging
from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.channel import open_sync_channel
from keeptune.runtime.errors import KeeptuneError
from keeptune.runtime.names import parse_trial
from keeptune.training.convert import parameters_from_proto
from keeptune.training.datasets.cache import open_data
from keeptune.training.engines.leases import Holding, StudyClient
from keeptune.training.engines.link import Link
from keeptune.training.engines.messages import (
    Broken,
    Drained,
    ExportWork,
    FixedDone,
    FixedWork,
    Job,
    Leased,
    StudyWork,
    TrialEnded,
)
from keeptune.training.engines.trial import (
    Completed,
    Directive,
    Failed,
    Infeasible,
    Outcome,
    TrialRunner,
)
from keeptune.training.export import export
from keeptune.training.model import Measurement
from keeptune.training.trainers.registry import Trainers

log = structlog.get_logger()


def main(connection: socket.socket) -> None:
    """The life of a worker: one job."""
    link = Link(connection)
    job = link.receive_job()
    _settle(job)
    with logging.bound(**job.ids):
        _work(job, link)


def _work(job: Job, link: Link) -> None:
    try:
        if isinstance(job.work, StudyWork):
            _study(job, job.work, link)
        elif isinstance(job.work, FixedWork):
            _fixed(job, job.work, link)
        else:
            _export(job, job.work, link)
    except KeeptuneError as error:
        log.error("worker gives up", worker=job.worker, error=error.message)
        link.send(Broken(error.message, error.fix, temporary=error.retryable))
    except Exception as error:
        log.exception("worker failed", worker=job.worker)
        link.send(Broken(f"{job.worker} failed with {type(error).__name__}: {error}"[:1000]))


def _settle(job: Job) -> None:
    """What forking copied and every worker needs for itself."""
    import torch

    logging.configure(level=job.log_level)
    torch.set_num_threads(job.threads)
    if job.device != "cpu":
        torch.use_deterministic_algorithms(False)
    chance = zlib.crc32(job.worker.encode())
    random.seed(chance)
    np.random.seed(chance)
    torch.manual_seed(chance)


def _study(job: Job, work: StudyWork, link: Link) -> None:
    runner = _runner(job, link)
    with open_sync_channel(work.search.target, credentials=work.search.credentials) as channel:
        client = StudyClient(
            channel,
            study=work.study,
            worker=job.worker,
            incarnation=work.incarnation,
            wait=link.wait,
            released=lambda: link.released,
        )
        while (holding := client.next()) is not None:
            name = holding.trial.name
            link.send(Leased(name))
            with holding:
                outcome = _one_trial(job, work, runner, holding)
                client.complete(holding, outcome)
            link.send(TrialEnded(name, type(outcome).__name__))
    link.send(Drained(released=link.released))


def _one_trial(job: Job, work: StudyWork, runner: TrialRunner, holding: Holding) -> Outcome:
    name = holding.trial.name
    if name in work.give_up:
        return Failed("its worker died every time it was tried, perhaps for want of memory")
    try:
        parameters = parameters_from_proto(holding.trial.parameters, field=name)
    except KeeptuneError as error:
        return Infeasible(error.message)
    return runner.run(name, parameters, _trial_seed(job.seed, parse_trial(name)[1]), holding)


def _fixed(job: Job, work: FixedWork, link: Link) -> None:
    outcome = _runner(job, link).run("", work.parameters, _trial_seed(job.seed, 0), _Alone())
    if isinstance(outcome, Completed):
        link.send(FixedDone(outcome.measurement, outcome.weights))
    else:
        assert isinstance(outcome, Failed | Infeasible)
        link.send(Broken(outcome.reason, "change the parameters, or the data"))


def _export(job: Job, work: ExportWork, link: Link) -> None:
    link.send(
        export(
            work.weights,
            trainer=Trainers.installed().get(job.trainer),
            trainer_name=job.trainer,
            data=open_data(Path(job.data_folder)),
            artifacts=ArtifactStore(job.artifacts_url),
        )
    )


def _runner(job: Job, link: Link) -> TrialRunner:
    return TrialRunner(
        job,
        Trainers.installed().get(job.trainer),
        open_data(Path(job.data_folder)),
        ArtifactStore(job.artifacts_url),
        link,
    )


def _trial_seed(seed: int, number: int) -> int:
    """The same on every attempt and in every study, different for every trial; 31 bits."""
    return zlib.crc32(f"{seed} {number}".encode()) >> 1


class _Alone:
    """The observer of a run that nobody stops."""

    directive = Directive.CONTINUE

    def report(self, measurement: Measurement) -> Directive:
        return self.directive
