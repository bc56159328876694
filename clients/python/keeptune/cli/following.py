"""Following a retune to its end: its states, and the progress of what it is busy with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keeptune.cli import output
from keeptune.cli.progress import Progress

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.results import RetuneStatus

_POLL_SECONDS = 1.0


async def follow_retune(client: AsyncClient, name: str) -> RetuneStatus:
    """Shows progress until the retune has ended, which is left to `say_end`; how it ended."""
    status = await client.retune(name)
    with Progress() as progress:
        polling = asyncio.create_task(_poll(client, name, progress))
        try:
            seen = ""
            async for event in client.retune_events(status.policy):
                if event.retune.name != status.name:
                    continue
                status = await client.retune(name)
                if status.ended:
                    return status
                if status.state != seen:
                    seen = status.state
                    progress.step(f"{status.name} {status.state}  {status.reason}".rstrip())
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
    return status


async def _poll(client: AsyncClient, name: str, progress: Progress) -> None:
    """What is under way just now; a service that is away for a moment is asked again."""
    from keeptune.runtime.errors import KeeptuneError

    while True:
        try:
            text = await _describe(client, await client.retune(name))
        except KeeptuneError as error:
            text = f"no news: {error.message}"
        if text:
            progress.now(text)
        await asyncio.sleep(_POLL_SECONDS)


async def _describe(client: AsyncClient, status: RetuneStatus) -> str:
    match status.state:
        case "SEARCHING" if status.study:
            return await _search_progress(client, status.study)
        case "ROLLING_OUT" | "BAKING" if status.rollout:
            rollout = await client.get(status.rollout)
            stages = [
                f"{host['host']} {host.get('stage', '').removeprefix('HOST_STAGE_')}"
                for host in rollout.get("hosts", [])
            ]
            return f"{status.rollout}: {', '.join(stages) or rollout.get('reason', 'waiting')}"
        case _:
            return status.next_step


async def _search_progress(client: AsyncClient, name: str) -> str:
    study = await client.study(name)
    status = await study.status()
    ended = sum(status.trials[state] for state in ("completed", "pruned", "infeasible", "failed"))
    total = f" of {status.max_trials}" if status.max_trials else ""
    best = await study.optimal()
    values = (
        " ".join(f"{key}={value:.4g}" for key, value in sorted(best[0].metrics.items()))
        if best
        else ""
    )
    running = f", {status.trials['running']} running" if status.trials["running"] else ""
    pruned = f", {status.trials['pruned']} pruned" if status.trials["pruned"] else ""
    return f"{name}: {ended}{total} trials{running}{pruned}{'; best ' + values if values else ''}"


def say_end(status: RetuneStatus) -> None:
    """The last word on a retune, on standard error."""
    output.note(f"{status.name} {output.colour(status.state, status.state)}  {status.reason}")
    if status.next_step and not status.succeeded:
        output.note(f"next: {status.next_step}")
