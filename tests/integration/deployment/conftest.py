from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.deployment.control_plane import ControlPlane, running
from tests.integration.deployment.judged import EvaluationProcess, Evaluations, judge


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluations]:
    folder = tmp_path_factory.mktemp("evaluations")
    url = (folder / "artifacts").as_uri()
    process = EvaluationProcess(folder, url)
    try:
        yield judge(folder, process, url)
    finally:
        process.close()


@pytest.fixture
async def plane(tmp_path: Path, evaluations: Evaluations) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path, evaluations) as found:
        yield found
