"""Judges one candidate: runs the models over the data, measures all that the gate asks about.

The result depends on the job's content alone, apart from the latencies. It runs in a process of
its own (see `judge_host`), because a hostile model can crash, hang or exhaust the C++ code that
runs it.
"""

from __future__ import annotations

import functools
import resource
from pathlib import Path

from keeptune.evaluation import latency, scoring
from keeptune.evaluation.contestant import Answers, Contestant
from keeptune.evaluation.job import JOB_FILE, RESULT_FILE, Job, Refusal, Result
from keeptune.evaluation.latency import summarize
from keeptune.evaluation.model import DatasetResult, Judgement, LatencyResult
from keeptune.evaluation.profile import reference_profile
from keeptune.runtime import documents
from keeptune.runtime.datasets import Table, read_dataset
from keeptune.runtime.errors import InvalidInput, KeeptuneError
from keeptune.v1 import types_pb2

CANDIDATE = "evaluation.candidate"
CHAMPION = "evaluation.champion"


def judge(job: Job, folder: Path) -> Judgement:
    """Raises KeeptuneError naming what is wrong with a model or a dataset."""
    candidate = Contestant.load(folder / job.candidate, CANDIDATE, signature=job.signature)
    champion = None
    if job.champion is not None:
        champion = Contestant.load(folder / job.champion, CHAMPION, default=job.signature)
    problems: list[str] = []
    results: list[DatasetResult] = []
    # Of the first dataset: the latencies are measured on its rows.
    firsts: list[tuple[Contestant, Answers]] = []
    for index, dataset in enumerate(job.datasets):
        field = f"evaluation.datasets[{index}]"
        table = _read(dataset, candidate, field)
        answers = candidate.answer(table, field)
        known = _answer_of_champion(champion, table, field)
        if answers.problem:
            problems.append(answers.problem)
            results.append(scoring.unscored(table.name, table.rows))
        else:
            results.append(
                scoring.score(
                    table.name,
                    candidate.score(answers, field),
                    champion.score(known, field) if champion and known else None,
                    table.slices,
                    job.confidence,
                    field=field,
                )
            )
        if index == 0:
            firsts = [(candidate, answers), *([(champion, known)] if champion and known else [])]
    profiled = firsts[0][1]
    if job.profile_dataset is not None:
        field = "evaluation.profile_dataset"
        profiled = candidate.answer(_read(job.profile_dataset, candidate, field), field)
        if profiled.problem:
            problems.append(profiled.problem)
    latencies = _latencies(job, firsts)
    return Judgement(
        results=tuple(results),
        candidate_latency=latencies[0],
        champion_latency=latencies[1] if champion else None,
        problems=tuple(problems),
        profile=b"" if profiled.problem else _profile(candidate, profiled),
    )


def _read(dataset: types_pb2.Dataset, candidate: Contestant, field: str) -> Table:
    return read_dataset(
        dataset,
        task=candidate.model.signature.task,
        feature_names=candidate.model.feature_names,
        field=field,
    )


def _answer_of_champion(champion: Contestant | None, table: Table, field: str) -> Answers | None:
    """Raises InvalidInput for unsound answers: against them nothing can be said."""
    if champion is None:
        return None
    answers = champion.answer(table, field)
    if answers.problem:
        raise InvalidInput(
            field=CHAMPION,
            problem=f"cannot be compared with: {answers.problem}",
            fix="evaluate without it, or against a sound version",
        )
    return answers


def _profile(candidate: Contestant, answers: Answers) -> bytes:
    names = answers.table.feature_names or candidate.model.feature_names
    found = reference_profile(
        candidate.model.signature, answers.inputs, answers.outputs, answers.table.y, names
    )
    return found.SerializeToString(deterministic=True)


def _latencies(job: Job, firsts: list[tuple[Contestant, Answers]]) -> list[LatencyResult]:
    calls = [
        functools.partial(
            contestant.session.call, latency.batch(answers.inputs, job.latency_batch_size)
        )
        for contestant, answers in firsts
    ]
    return [
        summarize(
            times, batch_size=job.latency_batch_size, size_bytes=len(contestant.model.content)
        )
        for times, (contestant, _) in zip(
            latency.measure(calls, seconds=job.latency_seconds), firsts, strict=True
        )
    ]


def carry_out(folder: Path) -> None:
    """Does the folder's job and writes its result there; limits this process's memory."""
    job = documents.decode((folder / JOB_FILE).read_bytes(), Job)
    # Data and not address space: onnxruntime and numpy reserve far more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (job.memory_bytes, job.memory_bytes))
    try:
        result = Result(judgement=judge(job, folder))
    except KeeptuneError as error:
        result = Result(refusal=Refusal(error.message, error.fix, error.reason))
    partial = folder / f"{RESULT_FILE}.part"
    partial.write_text(documents.encode(result, Result))
    partial.rename(folder / RESULT_FILE)
