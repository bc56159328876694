import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from keeptune.runtime.clock import Clock, ManualClock, SystemClock


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    clock = ManualClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [
        asyncio.create_task(sleeper(name, seconds))
        for name, seconds in (("late", 5), ("early", 1), ("same", 5), ("later", 9))
    ]
    await asyncio.sleep(0)
    assert clock.sleepers == 4
    clock.advance(0.9)
    await asyncio.sleep(0)
    assert woken == []
    clock.advance(4.1)
    await asyncio.gather(*tasks[:3])
    assert woken == ["early", "late", "same"]
    assert clock.sleepers == 1
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleepers == 0
    clock.advance(100)


async def test_no_time_at_all_still_lets_others_run() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    await clock.sleep(-1)


def test_both_clocks_move_together_and_never_back() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    clock = ManualClock(start)
    clock.advance(90)
    assert clock.now() == start + timedelta(seconds=90)
    assert clock.monotonic() == 90
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_a_clock_starts_at_an_aware_time() -> None:
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


async def test_the_system_clock_is_aware_and_goes_on() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.009
