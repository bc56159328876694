"""The service's end of judging: what comes back from a process that may have been taken over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from keeptune.evaluation.hosts import Host, JudgeDied
from keeptune.evaluation.job import RESULT_FILE
from keeptune.evaluation.judging import _read_result


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"judgement": 3}',
        b'{"judgement": {"results": "all good"}}',
        b'{"refusal": {"message": "x"}}',
    ],
)
def test_results_that_make_no_sense(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RESULT_FILE).write_bytes(content)
    with pytest.raises(JudgeDied, match="no readable result"):
        _read_result(tmp_path)


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(JudgeDied, match="no readable result"):
        _read_result(tmp_path)


async def test_a_host_does_job_after_job_and_ends_with_its_pipe(tmp_path: Path) -> None:
    host = await Host.start()
    try:
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            # There is no job in the folder: the fork fails, the host goes on and says why.
            with pytest.raises(JudgeDied, match=r"failed: FileNotFoundError.*job.json"):
                await host.carry_out(folder)
            assert host.alive
        process = psutil.Process(host._process.pid)
        assert host._process.stdin is not None
        host._process.stdin.close()
        await asyncio.to_thread(process.wait, 10)
    finally:
        await host.kill()


async def test_a_killed_host_is_told_as_a_death(tmp_path: Path) -> None:
    host = await Host.start()
    await host.kill()
    with pytest.raises(JudgeDied, match="were killed"):
        await host.carry_out(tmp_path)
    assert not host.alive
