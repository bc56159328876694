"""What the engine says when its nursery does not start."""

from __future__ import annotations

import sys

import pytest

from keeptune.runtime.errors import Unavailable
from keeptune.training.engines.local import LocalEngine
from keeptune.training.engines.messages import FixedWork, Job

JOB = Job("trainings/t/workers/0", "trainers/image", "/data", "file:///a", FixedWork({}))


async def test_a_nursery_that_does_not_start_is_told_and_not_tried_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = LocalEngine()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="status 1") as caught:
        await engine.start(JOB)
    assert caught.value.retry_after
    # Within the pause it is not even tried.
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable, match="does not start"):
        await engine.start(JOB)
    await engine.close()


async def test_a_program_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable):
        await engine.start(JOB)
    await engine.close()
