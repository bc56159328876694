"""Starts a judging process, gives it a job, and brings back its judgement, or why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keeptune.evaluation.config import EvaluationSettings
from keeptune.evaluation.job import JOB_FILE, RESULT_FILE, Job, Result
from keeptune.evaluation.model import Evaluation, Judgement
from keeptune.runtime import documents
from keeptune.runtime.artifacts import Artifact, ArtifactStore, from_proto
from keeptune.runtime.datasets import dataset_name
from keeptune.runtime.errors import InvalidInput, Unavailable
from keeptune.runtime.sources import format_of
from keeptune.v1 import types_pb2

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STDERR_BYTES = 2000
_RETRY_SECONDS = 5.0


class JudgeDied(Exception):  # noqa: N818  (a fact, and not an error of ours)
    """The judging process ended without a result: it crashed, was killed, or ran out of memory."""


class Judge(Protocol):
    async def judge(self, evaluation: Evaluation) -> Judgement:
        """Raises KeeptuneError when it cannot be judged, JudgeDied when the judge died."""


@dataclass(frozen=True)
class ProcessJudge:
    """Judges in a process of its own with a deadline and a limit on its memory."""

    artifacts: ArtifactStore
    settings: EvaluationSettings
    # Holds a folder for each job under way; what a killed service left there is cleared at start.
    work_dir: Path

    async def judge(self, evaluation: Evaluation) -> Judgement:
        try:
            with tempfile.TemporaryDirectory(dir=self.work_dir, prefix="job-") as name:
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
        await self.artifacts.fetch(evaluation.candidate, folder / "candidate.onnx")
        if evaluation.champion is not None:
            await self.artifacts.fetch(evaluation.champion, folder / "champion.onnx")
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
            latency_seconds=self.settings.latency_seconds,
            memory_bytes=self.settings.memory_bytes,
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
            local.uri = str(await self.artifacts.fetch(artifact, folder / filename))
        return local

    async def _run(self, folder: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file in the working folder must not pass for a module
            "-m",
            "keeptune.evaluation.judge",
            str(folder),
            # It reads its end of this pipe and ends when we do.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(_THREADS, "1")},
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self.settings.deadline_seconds):
                said = b""
                while chunk := await process.stderr.read(1 << 16):
                    said = (said + chunk)[-_STDERR_BYTES:]
                code = await process.wait()
        except TimeoutError:
            raise InvalidInput(
                f"it was not judged within {self.settings.deadline_seconds:g} s",
                fix="give a faster model or less data, or raise evaluation.deadline_seconds",
                reason="JUDGING_TIMED_OUT",
            ) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code < 0:
            raise JudgeDied(f"the judging process died of {signal.Signals(-code).name}")
        if code > 0:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise JudgeDied(f"the judging process failed: {(last or [f'status {code}'])[0][:300]}")


def _read_result(folder: Path) -> Result:
    # A hostile model may write into its folder what it likes; it is read as data, never unpickled.
    try:
        return documents.decode((folder / RESULT_FILE).read_bytes(), Result)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise JudgeDied(f"the judging process left no readable result: {error}") from error
