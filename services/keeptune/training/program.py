"""The wiring of the training service."""

from __future__ import annotations

from keeptune.runtime.db import Database, migrate
from keeptune.runtime.server import Context, Program
from keeptune.training.admission import Admission
from keeptune.training.config import TrainingSettings
from keeptune.training.datasets.cache import DatasetCache
from keeptune.training.datasets.keeper import DataKeeper
from keeptune.training.engines.local import LocalEngine
from keeptune.training.servicer import TrainingServicer
from keeptune.training.studies import Studies
from keeptune.training.supervisor import Supervisor
from keeptune.training.trainers.registry import Trainers
from keeptune.v1 import training_pb2_grpc


async def build(settings: TrainingSettings, context: Context) -> Program:
    """Opens the database; the search service may be away, and workers start in the background."""
    url = settings.database or f"sqlite:///{context.data_dir / 'training.db'}"
    database = await Database.open(url, clock=context.clock)
    await migrate(database)
    database.start_housekeeping()
    studies = Studies(context.open_channel("search"))
    engine = LocalEngine()
    data = DataKeeper(DatasetCache(context.data_dir / "datasets"), context.artifacts)
    supervisor = Supervisor(
        database,
        studies,
        engine,
        data,
        context.clock,
        artifacts_url=context.artifacts.url,
        search=lambda: context.find("search"),
        workers=settings.workers,
        poll_seconds=settings.poll_seconds,
        log_level=settings.log_level,
    )
    trainers = Trainers.installed()
    admission = Admission(trainers, studies, engine, data)

    async def close() -> None:
        await supervisor.close()
        await database.close()

    return Program(
        name="training",
        servicers=[
            (
                training_pb2_grpc.add_TrainingServiceServicer_to_server,
                TrainingServicer(database, trainers, admission, supervisor, context.clock),
                "keeptune.v1.TrainingService",
            )
        ],
        background=[supervisor.run, supervisor.warm],
        close=close,
    )
