"""Kill -9 at random moments: what was acknowledged is there, and there once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from keeptune.runtime.db import Database
from keeptune.runtime.errors import FailedPrecondition

WRITER = Path(__file__).with_name("acknowledging_writer.py")
KILLS = 5


def write_until_killed(url: str, first: int, lines: int) -> dict[int, str]:
    """What a writer said was acknowledged, up to its kill after `lines` lines or so."""
    process = subprocess.Popen(
        [sys.executable, WRITER, url, str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = {}
    try:
        for line in process.stdout:
            if line.endswith("\n"):
                number, name = line.split()
                acknowledged[int(number)] = name
            if len(acknowledged) >= lines and process.poll() is None:
                process.kill()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return acknowledged


@pytest.mark.parametrize("seed", [1])
async def test_nothing_acknowledged_is_lost_or_doubled(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    acknowledged: dict[int, str] = {}
    first = 0
    for _ in range(KILLS):
        # Each life begins a little before where the last one was killed: those requests are
        # repeats, some of calls that were answered and some of calls that were not.
        said = write_until_killed(database_url, first, rng.randrange(20, 200))
        assert said
        for number, name in said.items():
            assert acknowledged.setdefault(number, name) == name
        first = max(0, max(acknowledged) - 30)
    assert len(acknowledged) > 20 * KILLS / 2

    sys.path.insert(0, str(WRITER.parent))
    from acknowledging_writer import ENTRIES, Entry  # type: ignore[import-not-found]

    database = await Database.open(database_url)
    found: dict[int, list[str]] = {}
    token = ""
    while True:
        page = await database.read(
            lambda c, token=token: ENTRIES.list(c, page_size=1000, page_token=token)
        )
        for record in page.items:
            assert isinstance(record.doc, Entry)
            found.setdefault(record.doc.number, []).append(record.name)
        token = page.next_page_token
        if not token:
            break
    await database.close()
    lost = {number for number, name in acknowledged.items() if name not in found.get(number, ())}
    doubled = {number: names for number, names in found.items() if len(names) > 1}
    assert not lost
    assert not doubled


async def test_a_second_process_is_told_who_holds_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'held.db'}"
    holder = subprocess.Popen([sys.executable, WRITER, url, "0"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(FailedPrecondition, match=f"in use by process {holder.pid}") as caught:
            await Database.open(url)
        assert caught.value.reason == "DATABASE_IN_USE"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    # The kernel released the lock with the process.
    database = await Database.open(url)
    await database.close()
