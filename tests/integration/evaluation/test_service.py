"""The whole service over gRPC: judged for real, in its own judging processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from keeptune.runtime.calls import calling, streaming
from keeptune.runtime.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    NotImplementedYet,
)
from keeptune.v1 import evaluation_pb2 as pb
from keeptune.v1 import types_pb2
from tests.fixtures import judged_models as models
from tests.integration.evaluation.service import CLASSES, NOISY, RIGHT_WAY, Service, running

GOOD = models.classifier(RIGHT_WAY, CLASSES)
POOR = models.classifier(NOISY, CLASSES)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as found:
        yield found


def gate(*rules: pb.GateRule) -> pb.Gate:
    return pb.Gate(rules=rules)


async def test_a_better_candidate_passes_with_evidence(service: Service) -> None:
    day = np.where(np.arange(200) < 120, "mon", "tue")
    asked = pb.Evaluation(
        candidate=service.model(GOOD),
        champion=service.model(POOR),
        datasets=[service.data(day=day), service.data("recent", rows=50)],
        gate=gate(
            pb.GateRule(metric="accuracy", min=0.9, max_regression=0.01),
            pb.GateRule(metric="accuracy", dataset="held-out", require_improvement=True),
            pb.GateRule(metric="accuracy", slice="day=tue", min=0.9),
            pb.GateRule(metric="latency_p99_ms", max=5000),
            pb.GateRule(metric="size_bytes", max_relative_regression=0.5),
        ),
        labels={"model": "sides"},
        latency_batch_size=2,
    )
    created = await service.create(asked)
    assert created.state == pb.EVALUATION_STATE_PENDING
    assert created.gate.confidence == 0.95
    assert list(created.signature.classes) == CLASSES
    started = time.monotonic()
    slowest = 0.0
    while (found := await service.get(created.name)).state not in (
        pb.EVALUATION_STATE_SUCCEEDED,
        pb.EVALUATION_STATE_FAILED,
    ):
        asked_at = time.monotonic()
        await service.get(created.name)
        slowest = max(slowest, time.monotonic() - asked_at)
        assert asked_at - started < 90
        await asyncio.sleep(0.05)
    # Judging goes on elsewhere: callers are answered all the while.
    assert slowest < 2
    assert found.state == pb.EVALUATION_STATE_SUCCEEDED, found.reason
    assert found.verdict.outcome == pb.VERDICT_OUTCOME_PASSED, found.verdict.reason
    assert len(found.verdict.rules) == 5
    assert all(rule.passed and rule.evidence for rule in found.verdict.rules)
    held_out, recent = found.results
    assert (held_out.dataset, held_out.rows, recent.rows) == ("held-out", 200, 50)
    assert held_out.comparison.test == "mcnemar-exact"
    assert held_out.comparison.candidate_only_right > 0
    assert held_out.comparison.p_value < 1e-6
    assert [t.metric for t in held_out.further_comparisons] == ["log_loss"]
    assert {s.slice: s.rows for s in held_out.candidate.slices} == {"day=mon": 120, "day=tue": 80}
    assert {m.metric for m in held_out.candidate.metrics} == {
        "accuracy", "precision", "recall", "f1", "log_loss", "calibration_error",
    }  # fmt: skip
    assert found.candidate_latency.size_bytes == len(GOOD)
    assert found.candidate_latency.batch_size == 2
    assert found.candidate_latency.p99_ms >= found.candidate_latency.p50_ms > 0
    assert found.champion_latency.runs == found.candidate_latency.runs
    profile = pb.ReferenceProfile.FromString(
        await service.artifacts.get_bytes(found.reference_profile.sha256)
    )
    assert found.reference_profile.media_type == "application/x-protobuf"
    assert profile.rows == 200
    assert profile.accuracy == 1.0
    assert {c.channel for c in profile.channels} == {
        "input.0", "input.1", "output.confidence", "output.entropy", "output.class",
    }  # fmt: skip

    listed = await calling(
        service.stub.ListEvaluations(
            pb.ListEvaluationsRequest(filter='labels.model = "sides" AND outcome = "PASSED"')
        )
    )
    assert [e.name for e in listed.evaluations] == [created.name]
    assert not listed.evaluations[0].results[0].candidate.slices


async def test_a_worse_candidate_is_rejected_in_numbers(service: Service) -> None:
    found = await service.judged(
        pb.Evaluation(
            candidate=service.model(POOR),
            champion=service.model(GOOD),
            datasets=[service.data()],
            gate=gate(
                pb.GateRule(metric="accuracy", max_regression=0.05),
                pb.GateRule(metric="log_loss", min=0.0),
            ),
        )
    )
    assert found.state == pb.EVALUATION_STATE_SUCCEEDED
    assert found.verdict.outcome == pb.VERDICT_OUTCOME_REJECTED
    first, second = found.verdict.rules
    assert (first.passed, second.passed) == (False, True)
    assert "champion's 1: " in first.evidence
    assert "at most 0.05 worse is allowed" in first.evidence
    assert found.verdict.reason == found.reason == first.evidence


async def test_a_regression_model_on_tables_without_a_champion(
    service: Service, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "t": x[:, 0].astype(np.float64) * 2 + 1})
    parquet.write_table(table, tmp_path / "houses.parquet")
    csv.write_csv(table.slice(0, 100), tmp_path / "few.csv")
    found = await service.judged(
        pb.Evaluation(
            candidate=service.model(models.regressor([2.0, 0.0], offset=1.0)),
            datasets=[
                types_pb2.Dataset(uri=str(tmp_path / "houses.parquet"), target_column="t"),
                types_pb2.Dataset(uri=(tmp_path / "few.csv").as_uri(), target_column="t"),
            ],
            gate=gate(pb.GateRule(metric="rmse", max=0.01, max_relative_regression=0.1)),
        )
    )
    assert found.verdict.outcome == pb.VERDICT_OUTCOME_PASSED, found.reason
    assert "no champion" in found.verdict.rules[0].evidence
    assert [(r.dataset, r.rows) for r in found.results] == [("houses", 3000), ("few", 100)]
    assert {m.metric for m in found.results[0].candidate.metrics} == {"rmse", "mae", "r2"}
    assert not found.HasField("champion_latency")


async def test_a_repeated_request_gets_its_first_answer(service: Service) -> None:
    asked = pb.Evaluation(candidate=service.model(GOOD), datasets=[service.data()])
    first = await service.create(asked, "once", "retune/evaluate")
    again = await service.create(asked, "once", "retune/evaluate")
    assert first == again
    with pytest.raises(InvalidInput) as caught:
        await service.create(asked, "other", "retune/evaluate")
    assert caught.value.field == "request_id"
    with pytest.raises(AlreadyExists):
        await service.create(asked, "once")
    listed = await calling(service.stub.ListEvaluations(pb.ListEvaluationsRequest()))
    assert [e.name for e in listed.evaluations] == ["evaluations/once"]


async def test_watching_replays_and_can_be_resumed(service: Service) -> None:
    asked = pb.Evaluation(candidate=service.model(GOOD), datasets=[service.data()])
    created = await service.create(asked)

    async def watch(revision: int, name: str = created.name) -> list[pb.WatchEvaluationResponse]:
        request = pb.WatchEvaluationRequest(name=name, revision=revision)
        return [seen async for seen in streaming(service.stub.WatchEvaluation(request))]

    async with asyncio.timeout(90):
        seen = await watch(0)
        assert [e.evaluation.state for e in seen] == [
            pb.EVALUATION_STATE_PENDING,
            pb.EVALUATION_STATE_RUNNING,
            pb.EVALUATION_STATE_SUCCEEDED,
        ]
        assert seen[0].revision == created.metadata.revision
        assert [e.revision for e in await watch(seen[0].revision)] == [e.revision for e in seen[1:]]
        assert await watch(seen[-1].revision) == []
    assert seen[-1].evaluation == await service.get(created.name)
    with pytest.raises(NotFound):
        await watch(0, "evaluations/none")


async def test_nan_outputs_are_rejected(service: Service) -> None:
    broken = models.classifier(RIGHT_WAY, CLASSES, tail=models.nan_tail())
    found = await service.judged(
        pb.Evaluation(
            candidate=service.model(broken),
            datasets=[service.data()],
            gate=gate(pb.GateRule(metric="accuracy", min=0.1)),
        )
    )
    assert found.verdict.outcome == pb.VERDICT_OUTCOME_REJECTED
    assert "NaN or infinite in" in found.reason
    assert "accuracy on held-out is not defined" in found.reason
    assert not found.HasField("reference_profile")


async def test_broken_rows_fail_it_with_the_field_and_the_way_out(service: Service) -> None:
    labels = np.where(np.arange(200) < 3, "", "left")
    found = await service.judged(
        pb.Evaluation(candidate=service.model(GOOD), datasets=[service.data(y=labels)])
    )
    assert found.state == pb.EVALUATION_STATE_FAILED
    assert "evaluation.datasets[0].target_column 'y' has no value in 3 of 200 rows" in found.reason
    assert found.next_step
    assert not found.HasField("verdict")


async def test_a_model_that_never_answers_is_ended(tmp_path: Path) -> None:
    endless = models.classifier(RIGHT_WAY, CLASSES, tail=models.endless_tail())
    async with running(tmp_path, deadline_seconds=6) as service:
        found = await service.judged(
            pb.Evaluation(candidate=service.model(endless), datasets=[service.data()])
        )
        assert found.state == pb.EVALUATION_STATE_FAILED
        assert "was not judged within 6 s" in found.reason
        assert judges() == []
        assert list((tmp_path / "evaluation-jobs").iterdir()) == []


async def test_a_judge_that_crashes_takes_nothing_along(service: Service) -> None:
    endless = models.classifier(RIGHT_WAY, CLASSES, tail=models.endless_tail())
    created = await service.create(
        pb.Evaluation(candidate=service.model(endless), datasets=[service.data()])
    )
    killed: set[int] = set()
    async with asyncio.timeout(60):
        while (found := await service.get(created.name)).state not in (
            pb.EVALUATION_STATE_SUCCEEDED,
            pb.EVALUATION_STATE_FAILED,
        ):
            for judge in judges():
                if judge.pid not in killed:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        judge.send_signal(signal.SIGSEGV)
                    killed.add(judge.pid)
            await asyncio.sleep(0.05)
    assert found.state == pb.EVALUATION_STATE_FAILED
    assert found.reason == "the judging process died of SIGSEGV, 2 times"
    assert len(killed) == 2
    fine = await service.judged(
        pb.Evaluation(candidate=service.model(GOOD), datasets=[service.data()])
    )
    assert fine.state == pb.EVALUATION_STATE_SUCCEEDED


def judges() -> list[psutil.Process]:
    """The forks in which this test's service is judging."""
    found = []
    for host in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "keeptune.evaluation.judge_host" in host.cmdline():
                found += [c for c in host.children() if c.status() != psutil.STATUS_ZOMBIE]
    return found


# --- refused at once, with nothing changed ---


async def refused(service: Service, asked: pb.Evaluation) -> InvalidInput | NotFound:
    with pytest.raises((InvalidInput, NotFound, NotImplementedYet)) as caught:
        await service.create(asked)
    listed = await calling(service.stub.ListEvaluations(pb.ListEvaluationsRequest()))
    assert not listed.evaluations
    found: InvalidInput | NotFound = caught.value
    return found


async def test_unknown_metrics_and_datasets_in_rules(service: Service) -> None:
    error = await refused(
        service,
        pb.Evaluation(
            candidate=service.model(GOOD),
            datasets=[service.data()],
            gate=gate(
                pb.GateRule(metric="acuracy", min=0.9),
                pb.GateRule(metric="f1", dataset="heldout", min=0.9),
            ),
        ),
    )
    assert [v.field for v in error.violations] == [
        "evaluation.gate.rules[0].metric",
        "evaluation.gate.rules[1].dataset",
    ]
    assert error.violations[0].fix == "did you mean accuracy?"
    assert error.violations[1].fix == "did you mean held-out?"


async def test_truncated_and_missing_models(service: Service) -> None:
    data = service.data()
    error = await refused(
        service, pb.Evaluation(candidate=service.model(GOOD[:200]), datasets=[data])
    )
    assert (error.field, error.reason) == ("evaluation.candidate", "UNSOUND_MODEL")
    absent = types_pb2.Artifact(sha256="ab" * 32)
    error = await refused(
        service,
        pb.Evaluation(candidate=service.model(GOOD), champion=absent, datasets=[data]),
    )
    assert isinstance(error, NotFound)
    assert error.field == "evaluation.champion"


async def test_tricks_in_names(service: Service) -> None:
    data = service.data()
    for artifact in (
        types_pb2.Artifact(sha256="ab" * 32, filename="../../etc/passwd"),
        types_pb2.Artifact(sha256="../" * 21 + "a"),
    ):
        error = await refused(service, pb.Evaluation(candidate=artifact, datasets=[data]))
        assert error.field.startswith("evaluation.candidate.")


async def test_a_champion_of_another_task(service: Service) -> None:
    error = await refused(
        service,
        pb.Evaluation(
            candidate=service.model(GOOD),
            champion=service.model(models.regressor([1.0, 1.0])),
            datasets=[service.data()],
        ),
    )
    assert error.field == "evaluation.champion"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"uri": "/nowhere/d.npz"}, "evaluation.datasets[0].uri"),
        ({"target_column": "label"}, "evaluation.datasets[0].target_column"),
        ({"feature_columns": ["pixels"]}, "evaluation.datasets[0].feature_columns"),
        ({"slice_columns": ["day"]}, "evaluation.datasets[0].slice_columns"),
        ({"format": types_pb2.DATASET_FORMAT_PARQUET}, "evaluation.datasets[0].artifact"),
    ],
)
async def test_broken_datasets(service: Service, change: dict[str, object], field: str) -> None:
    data = service.data()
    data.MergeFrom(types_pb2.Dataset(**change))  # type: ignore[arg-type]
    error = await refused(service, pb.Evaluation(candidate=service.model(GOOD), datasets=[data]))
    assert error.field == field
    assert error.violations[0].fix


async def test_two_datasets_of_one_name(service: Service) -> None:
    error = await refused(
        service,
        pb.Evaluation(candidate=service.model(GOOD), datasets=[service.data(), service.data()]),
    )
    assert error.field == "evaluation.datasets[0].display_name"


async def test_no_datasets_and_wild_numbers(service: Service) -> None:
    error = await refused(service, pb.Evaluation(candidate=service.model(GOOD)))
    assert error.field == "evaluation.datasets"
    error = await refused(
        service,
        pb.Evaluation(
            candidate=service.model(GOOD),
            datasets=[service.data()],
            gate=pb.Gate(confidence=1.5),
            latency_batch_size=-1,
        ),
    )
    assert {v.field for v in error.violations} == {
        "evaluation.gate.confidence",
        "evaluation.latency_batch_size",
    }


async def test_robustness_comes_later_and_says_so(service: Service) -> None:
    error = await refused(
        service,
        pb.Evaluation(
            candidate=service.model(GOOD),
            datasets=[service.data()],
            robustness=[pb.RobustnessCheck(kind="pgd", strength=0.1)],
        ),
    )
    assert isinstance(error, NotImplementedYet)
    assert "meanwhile" in error.fix


async def test_what_is_not_there(service: Service) -> None:
    with pytest.raises(NotFound):
        await service.get("evaluations/none")
    with pytest.raises(InvalidInput) as caught:
        await service.get("evaluation/none")
    assert caught.value.field == "name"
    with pytest.raises(InvalidInput):
        await calling(service.stub.ListEvaluations(pb.ListEvaluationsRequest(filter="colour = 1")))
