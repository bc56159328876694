"""The loop on a real store: trouble with one retune is that one's own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from keeptune.retuning import loop as loops
from keeptune.retuning import store
from keeptune.retuning.decide import Become, World
from keeptune.retuning.loop import Loop
from keeptune.retuning.model import Retune, RetuneState, Trigger
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_defect_in_one_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    database = await Database.open(f"sqlite:///{tmp_path}/r.db", clock=clock)
    await migrate(database)
    for name in ("sick", "sound"):
        doc = Retune(f"policies/{name}", f"models/{name}", Trigger.SIGNAL, "{}", start_time=NOW)
        create = partial(store.retunes.create, name=f"retunes/{name}", doc=doc, state=doc.state)
        await database.run(create)

    async def observe(*_: object) -> World:
        return World()

    def decide(retune: Retune, *_: object) -> Become:
        if retune.policy == "policies/sick":
            raise KeyError("a defect")
        return Become(RetuneState.SUCCEEDED, "done", "")

    monkeypatch.setattr(loops, "observe", observe)
    monkeypatch.setattr(loops, "decide", decide)
    monkeypatch.setattr(loops.specs, "rules_of", lambda _: None)
    loop = Loop(database, cast("Any", None), clock, 1.0)
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(20):
        while [r.name for r in await database.read(store.open_retunes)] != ["retunes/sick"]:
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
            clock.advance(1.0)
        monkeypatch.setattr(loops, "decide", lambda *_: Become(RetuneState.SUCCEEDED, "mended", ""))
        while await database.read(store.open_retunes):
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
            clock.advance(1.0)
    assert not running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await database.close()
