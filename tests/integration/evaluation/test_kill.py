"""Kill -9 of the service while it judges: nothing is lost, doubled, or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from keeptune.v1 import evaluation_pb2 as pb
from tests.fixtures import judged_models as models
from tests.integration.evaluation.service import (
    CLASSES,
    NOISY,
    RIGHT_WAY,
    ServiceProcess,
)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ServiceProcess]:
    found = ServiceProcess(tmp_path)
    yield found
    found.close()


def content(evaluation: pb.Evaluation) -> bytes:
    """What must not depend on how often the service was killed."""
    kept = pb.Evaluation(results=evaluation.results, reference_profile=evaluation.reference_profile)
    return kept.SerializeToString(deterministic=True)


@pytest.mark.timeout(240)
async def test_judging_goes_on_after_kills(process: ServiceProcess) -> None:
    service = await process.start()
    asked = pb.Evaluation(
        candidate=service.model(models.classifier(RIGHT_WAY, CLASSES)),
        champion=service.model(models.classifier(NOISY, CLASSES)),
        datasets=[service.data()],
        gate=pb.Gate(rules=[pb.GateRule(metric="accuracy", require_improvement=True)]),
    )
    undisturbed = await service.judged(asked)
    assert undisturbed.verdict.outcome == pb.VERDICT_OUTCOME_PASSED, undisturbed.reason

    await service.create(asked, "killed", "r/evaluate")
    orphans: list[psutil.Process] = []
    for pause in (0.0, 0.7, 1.5):
        await asyncio.sleep(pause)
        assert process.process is not None
        orphans += psutil.Process(process.process.pid).children(recursive=True)
        process.kill()
        service = await process.start()
        # The caller cannot know whether it was heard, and asks again.
        await service.create(asked, "killed", "r/evaluate")
    found = await service.ended("evaluations/killed")
    assert found.state == pb.EVALUATION_STATE_SUCCEEDED, found.reason
    assert content(found) == content(undisturbed)
    assert found.verdict.outcome == undisturbed.verdict.outcome
    # A verdict is given once and stays.
    process.kill()
    service = await process.start()
    assert await service.get("evaluations/killed") == found
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert not alive
    assert len(list((process.folder / "evaluation-jobs").iterdir())) == 0
