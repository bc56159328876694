"""The wiring of the evaluation service."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from keeptune.evaluation.admission import Admission
from keeptune.evaluation.config import EvaluationSettings
from keeptune.evaluation.judging import ProcessJudge
from keeptune.evaluation.loop import Loop
from keeptune.evaluation.servicer import EvaluationServicer
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.server import Context, Program
from keeptune.v1 import evaluation_pb2_grpc


async def build(settings: EvaluationSettings, context: Context) -> Program:
    """Opens the database and takes up what was left open."""
    url = settings.database or f"sqlite:///{context.data_dir / 'evaluation.db'}"
    database = await Database.open(url, clock=context.clock)
    await migrate(database)
    work_dir = await asyncio.to_thread(_cleared, context.data_dir / "evaluation-jobs")
    judge = ProcessJudge(context.artifacts, settings, work_dir)
    loop = Loop(
        database,
        context.artifacts,
        judge,
        context.clock,
        parallelism=settings.parallelism,
        poll_seconds=settings.poll_seconds,
    )
    servicer = EvaluationServicer(database, Admission(context.artifacts, settings), loop)

    async def close() -> None:
        await judge.close()
        await database.close()

    return Program(
        name="evaluation",
        servicers=[
            (
                evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
                servicer,
                "keeptune.v1.EvaluationService",
            )
        ],
        background=[loop.run],
        close=close,
    )


def _cleared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.absolute()
