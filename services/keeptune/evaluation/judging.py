"""Makes a job of an evaluation, has it done in a judging process, and brings back what it found."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Protocol

from keeptune.evaluation.config import EvaluationSettings
from keeptune.evaluation.hosts import Host, JudgeDied
from keeptune.evaluation.job import JOB_FILE, RESULT_FILE, Job, Result
from keeptune.evaluation.model import Evaluation, Judgement
from keeptune.runtime import documents
from keeptune.runtime.artifacts import Artifact, ArtifactStore, from_proto
from keeptune.runtime.datasets import dataset_name
from keeptune.runtime.errors import InvalidInput, Unavailable
from keeptune.runtime.sources import format_of
from keeptune.v1 import types_pb2

_RETRY_SECONDS = 5.0


class Judge(Protocol):
    async def judge(self, evaluation: Evaluation) -> Judgement:
        """Raises KeeptuneError when it cannot be judged, JudgeDied when the judge died."""


class ProcessJudge:
    """Judges in a process of its own with a deadline and a limit on its memory.

    `work_dir` holds a folder for each job under way. Processes that have done a job wait for the
    next one; `close` ends them.
    """

    def __init__(
        self, artifacts: ArtifactStore, settings: EvaluationSettings, work_dir: Path
    ) -> None:
        self._artifacts = artifacts
        self._settings = settings
        self._work_dir = work_dir
        self._idle: list[Host] = []

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().kill()

    async def judge(self, evaluation: Evaluation) -> Judgement:
        try:
            with tempfile.TemporaryDirectory(dir=self._work_dir, prefix="job-") as name:
                folder = Path(name)
                job = await self._job(evaluation, folder)
                (folder / JOB_FILE).write_text(documents.encode(job, Job))
                await self._run(folder)
                result = await asyncio.to_thread(_read_result, folder)
        except OSError as error:
            raise Unavailable(
                f"no judging process can be started: {error}", retry_after=_RETRY_SECONDS
            ) from error
        if result.refusal is not None:
            refusal = result.refusal
            raise InvalidInput(refusal.message, fix=refusal.fix, reason=refusal.reason)
        if result.judgement is None:
            raise JudgeDied("the judging process left an empty result")
        return result.judgement

    async def _job(self, evaluation: Evaluation, folder: Path) -> Job:
        """Puts what the job needs into its folder: the judge has no access to the store."""
        await self._artifacts.fetch(evaluation.candidate, folder / "candidate.onnx")
        if evaluation.champion is not None:
            await self._artifacts.fetch(evaluation.champion, folder / "champion.onnx")
        datasets = [
            await self._local(dataset, folder, f"dataset-{index}")
            for index, dataset in enumerate(evaluation.datasets)
        ]
        profile = evaluation.profile_dataset
        return Job(
            candidate="candidate.onnx",
            champion="champion.onnx" if evaluation.champion is not None else None,
            signature=evaluation.signature,
            datasets=tuple(datasets),
            profile_dataset=(
                await self._local(profile, folder, "profile-dataset") if profile else None
            ),
            confidence=evaluation.gate.confidence,
            latency_batch_size=evaluation.latency_batch_size,
            latency_seconds=self._settings.latency_seconds,
            memory_bytes=self._settings.memory_bytes,
        )

    async def _local(
        self, dataset: types_pb2.Dataset, folder: Path, filename: str
    ) -> types_pb2.Dataset:
        local = types_pb2.Dataset()
        local.CopyFrom(dataset)
        local.display_name = dataset_name(dataset)
        if dataset.WhichOneof("source") == "artifact":
            local.format = format_of(dataset, "dataset")
            artifact: Artifact = from_proto(dataset.artifact)
            local.uri = str(await self._artifacts.fetch(artifact, folder / filename))
        return local

    async def _run(self, folder: Path) -> None:
        while self._idle and not self._idle[-1].alive:
            self._idle.pop()
        host = self._idle.pop() if self._idle else await Host.start()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                await host.carry_out(folder)
        except TimeoutError:
            await host.kill()
            raise InvalidInput(
                f"it was not judged within {self._settings.deadline_seconds:g} s",
                fix="give a faster model or less data, or raise evaluation.deadline_seconds",
                reason="JUDGING_TIMED_OUT",
            ) from None
        except asyncio.CancelledError:
            await host.kill()
            raise
        finally:
            if host.alive:
                self._idle.append(host)


def _read_result(folder: Path) -> Result:
    # A hostile model may write into its folder what it likes; it is read as data, never unpickled.
    try:
        return documents.decode((folder / RESULT_FILE).read_bytes(), Result)
    except Exception as error:
        raise JudgeDied(f"the judging process left no readable result: {error}") from error
