"""The service's end of a judge host: starts it, hands it one job at a time, kills it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from keeptune.evaluation.job import STDERR_FILE

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class JudgeDied(Exception):  # noqa: N818  (a fact, and not an error of ours)
    """The judging process ended without a result: it crashed, was killed, or ran out of memory."""


class Host:
    """A running judge host (see `judge_host`)."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Host:
        """Raises OSError when the machine cannot start a process."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file in the working folder must not pass for a module
            "-m",
            "keeptune.evaluation.judge_host",
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={**os.environ, **dict.fromkeys(_THREADS, "1")},
            # A group of its own, so that host and fork can be killed together.
            start_new_session=True,
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def carry_out(self, folder: Path) -> None:
        """Has the job of the folder done. Raises JudgeDied when it was not.

        A host whose job was given up half way (cancelled) is of no more use: kill it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):  # its death is told by what it does not answer
            self._process.stdin.write(os.fsencode(folder) + b"\n")
            await self._process.stdin.drain()
        answer = await self._process.stdout.readline()
        if not answer:
            await self.kill()
            raise JudgeDied("the judging processes were killed")
        status = int(answer)
        if status < 0:
            raise JudgeDied(f"the judging process died of {signal.Signals(-status).name}")
        if status > 0:
            raise JudgeDied(f"the judging process failed: {_last_words(folder, status)}")

    async def kill(self) -> None:
        """Ends it and the fork at work, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


def _last_words(folder: Path, status: int) -> str:
    try:
        said = (folder / STDERR_FILE).read_text(errors="replace").strip()
    except OSError:
        said = ""
    return (said.splitlines() or [f"exit status {status}"])[-1][:300]
