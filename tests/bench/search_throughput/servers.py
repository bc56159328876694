"""The servers that are measured, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.v1 import search_pb2
from tests.fixtures.postgres import empty_database, find_binaries, postgres_on_this_machine
from tests.integration.search import service

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Target:
    """Where a server listens, and what its processes are."""

    address: str
    pid: int
    token: str = "none"


@dataclass(frozen=True)
class Rate:
    """What some clients got: pairs a second, and milliseconds of the server's CPU a pair."""

    pairs: float
    cpu: float


@contextmanager
def floor(folder: Path) -> Iterator[Target]:
    command = [sys.executable, HERE / "floor.py", folder / "floor.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Target(process.stdout.readline().strip(), process.pid)
        finally:
            process.kill()


@contextmanager
def keeptune(folder: Path, database: str = "", **asked: Any) -> Iterator[Target]:
    """The search service with the study `s`, at random unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    with service.process(folder, database=database) as process:
        target = Target(process.address, process.pid, process.token)
        defaults: dict[str, Any] = {"algorithm": "random", "max_trials": 10**9}
        asyncio.run(create(target, service.study(**(defaults | asked))))
        yield target


async def create(target: Target, study: search_pb2.Study) -> None:
    async with service.client(target.address, target.token) as stub:
        await stub.CreateStudy(search_pb2.CreateStudyRequest(study_id="s", study=study))


class NoPostgresError(Exception):
    pass


@contextmanager
def postgres_database() -> Iterator[str]:
    """A URL; with fsync, unlike in the tests. Raises NoPostgresError."""
    if find_binaries() is None:
        raise NoPostgresError("PostgreSQL is not installed")
    with postgres_on_this_machine(durable=True) as server, empty_database(server) as url:
        yield url


def load(target: Target, way: str, clients: int, seconds: float) -> Rate:
    command = [sys.executable, HERE / "load.py", target.address, target.token, way]
    arguments = [str(each) for each in (*command, clients, seconds, target.pid)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300)
    return rate_of(done.stdout)


def rate_of(output: str) -> Rate:
    """Of the last line, JSON of pairs, seconds and CPU seconds."""
    found = json.loads(output.strip().splitlines()[-1])
    pairs = max(1, found["pairs"])
    return Rate(found["pairs"] / found["seconds"], 1000 * found["cpu"] / pairs)
