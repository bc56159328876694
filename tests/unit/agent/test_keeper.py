"""What the keeper says of Triton while the two find each other."""

from __future__ import annotations

import itertools
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
        self.refuses = False
        self.starts = 1
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
        self.loaded = not self.refuses
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
        starts=lambda: triton.starts,
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


async def test_a_restart_is_noticed_by_the_next_look_though_all_seems_well(
    tmp_path: Path,
) -> None:
    triton, clock = Triton(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    seen: list[Any] = []
    it = keeper(tmp_path, triton, clock, seen)
    for _ in range(25):
        await it.look()
        clock.advance(1.0)
    assert (it.state.starts, triton.restored, it.canaries("digits")) == (1, 1, 3)
    seen.clear()
    triton.starts, triton.loaded = 2, False
    await it.look()
    assert (it.state.ready, it.state.starts, triton.restored) == (True, 2, 2)
    assert it.problem("digits") == ""
    assert seen == [(True, {1})], "nobody is told"
    # The new Triton counts from nothing.
    assert it.canaries("digits") == 1


async def test_a_triton_whose_starts_are_not_known_is_followed_all_the_same(
    tmp_path: Path,
) -> None:
    triton, clock = Triton(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    triton.starts = 0
    it = keeper(tmp_path, triton, clock, [])
    await it.look()
    triton.loaded = False
    for _ in range(2):
        clock.advance(1.0)
        await it.look()
    assert it.problem("digits") == ""
    assert (it.state.starts, triton.restored) == (0, 2)


async def test_a_version_that_is_refused_again_and_again_is_tried_ever_more_rarely(
    tmp_path: Path,
) -> None:
    triton, clock = Triton(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    triton.refuses, triton.loaded = True, False
    it = keeper(tmp_path, triton, clock, [])
    tries: list[int] = []
    for second in range(200):
        await it.look()
        if triton.restored > len(tries):
            tries.append(second)
        clock.advance(1.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps[0] == 1
    assert gaps == sorted(gaps)
    assert gaps[-1] == 30
    assert "not ready in Triton" in it.problem("digits")
    triton.refuses = False
    for _ in range(31):
        clock.advance(1.0)
        await it.look()
    assert it.problem("digits") == ""
    # Once it has served, its next absence is mended at once.
    before, triton.loaded = triton.restored, False
    for _ in range(2):
        clock.advance(1.0)
        await it.look()
    assert (it.problem("digits"), triton.restored) == ("", before + 1)
