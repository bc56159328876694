import asyncio
import itertools

import pytest

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import NotFound, Unavailable
from keeptune.runtime.tasks import every, rest, run_all


async def test_the_first_failure_cancels_the_siblings_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("forever")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise NotFound("gone")

    with pytest.raises(NotFound, match="gone") as caught:
        await run_all({"one": forever, "two": fail, "three": forever})
    assert ended == ["forever", "forever"]
    assert caught.value.__notes__ == ["in the loop two"]


async def test_loops_may_end_by_themselves() -> None:
    async def quick() -> None:
        await asyncio.sleep(0)

    await run_all({"one": quick, "two": quick})
    await run_all({})


async def test_cancelling_all_cancels_each_and_waits_for_them() -> None:
    ended: list[int] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    task = asyncio.create_task(run_all({"one": forever, "two": forever}))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1, 1]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_every_waits_between_calls() -> None:
    clock = ManualClock()
    calls: list[float] = []

    async def note() -> None:
        calls.append(clock.monotonic())

    task = asyncio.create_task(every(clock, 10, note))
    for _ in range(3):
        await settle()
        clock.advance(10)
    await settle()
    assert calls == [0, 10, 20, 30]
    task.cancel()


async def test_every_backs_off_while_trying_again_can_help() -> None:
    clock = ManualClock()
    calls: list[float] = []

    async def note() -> None:
        calls.append(clock.monotonic())
        if len(calls) <= 4:
            raise Unavailable("away")

    task = asyncio.create_task(every(clock, 1, note))
    for _ in range(400):
        await settle()
        clock.advance(0.1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert 0.4 < gaps[0] <= 1.1
    assert gaps[3] > 3 * gaps[0]
    assert gaps[4:] == pytest.approx([1] * len(gaps[4:]), abs=0.11)
    assert len(gaps) > 10
    task.cancel()


async def test_every_waits_at_least_as_long_as_it_is_asked_to() -> None:
    clock = ManualClock()
    calls: list[float] = []

    async def note() -> None:
        calls.append(clock.monotonic())
        raise Unavailable("away", retry_after=30)

    task = asyncio.create_task(every(clock, 1, note))
    await settle()
    clock.advance(29)
    await settle()
    assert calls == [0]
    clock.advance(1)
    await settle()
    assert calls == [0, 30]
    task.cancel()


@pytest.mark.parametrize("error", [NotFound("gone"), ZeroDivisionError("a defect")])
async def test_every_raises_what_trying_again_cannot_help(error: Exception) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await every(ManualClock(), 1, fail)


async def test_a_rest_ends_with_the_first_that_comes_and_leaves_nothing_behind() -> None:
    clock, news = ManualClock(), asyncio.Event()
    before = asyncio.all_tasks()

    async def soon() -> None:
        await asyncio.sleep(0)

    long = asyncio.create_task(asyncio.Event().wait())
    for wake in (news.set, lambda: clock.advance(5.0)):
        news.clear()
        resting = asyncio.create_task(rest(clock, 5.0, news, [long]))
        while not clock.sleepers:
            await asyncio.sleep(0)
        wake()
        await resting
    news.clear()
    await rest(clock, 5.0, news, [asyncio.create_task(soon())])
    assert asyncio.all_tasks() - before == {long}
    long.cancel()
