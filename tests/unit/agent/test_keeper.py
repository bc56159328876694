"""What the keeper says of Triton while the two find each other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from keeptune.agent.host_store import HostStore
from keeptune.agent.keeper import Keeper
from keeptune.agent.triton_model import IndexEntry, ServerInfo, TritonUnavailable
from keeptune.runtime.clock import ManualClock


class Triton:
    """Serves version 1 of digits; loads whatever the keeper's updater restores."""

    def __init__(self) -> None:
        self.away = False
        self.loaded = True
        self.restored = 0

    async def server(self) -> ServerInfo:
        if self.away:
            raise TritonUnavailable("gone")
        return ServerInfo("2.51.0", ())

    async def index(self) -> list[IndexEntry]:
        await self.server()
        return [IndexEntry("digits", 1, "READY", "")] if self.loaded else []

    async def statistics(self) -> list[Any]:
        return []

    async def restore(self) -> tuple[Any, ...]:
        self.restored += 1
        self.loaded = True
        return ()


def keeper(folder: Path, triton: Triton, clock: ManualClock, seen: list[Any]) -> Keeper:
    watch = SimpleNamespace(number=1, breach=lambda: "")
    watcher = SimpleNamespace(
        sync=lambda _: None,
        poll=lambda *_: None,
        watches={"digits": watch},
        example=lambda _: {},
    )
    probed = SimpleNamespace(problem="")

    async def probe(*_: object) -> Any:
        return probed

    made = Keeper(
        triton=cast("Any", triton),
        updater=cast("Any", triton),
        health=cast("Any", SimpleNamespace(probe=probe)),
        carrier=cast("Any", SimpleNamespace(busy=lambda _: False)),
        watcher=cast("Any", watcher),
        store=HostStore(folder),
        clock=clock,
        changed=lambda _: seen.append((made.state.ready, made.ready("digits"))),
    )
    return made


async def test_ready_is_said_only_with_what_is_served(tmp_path: Path) -> None:
    triton, clock = Triton(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    seen: list[Any] = []
    it = keeper(tmp_path, triton, clock, seen)
    assert it.ready("digits") is None
    await it.look()
    assert (True, set()) not in seen
    assert it.ready("digits") == {1}
    triton.away = True
    await it.look()
    assert it.ready("digits") is None
    triton.away = False
    await it.look()
    assert seen[0] == (True, {1})
    assert (True, set()) not in seen
    assert it.problem("digits") == ""


async def test_a_triton_started_again_between_two_looks_gets_its_models_back(
    tmp_path: Path,
) -> None:
    triton, clock = Triton(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    it = keeper(tmp_path, triton, clock, [])
    await it.look()
    triton.loaded = False
    for _ in range(40):
        clock.advance(1.0)
        await it.look()
    assert it.problem("digits") == ""
    assert triton.restored == 2
