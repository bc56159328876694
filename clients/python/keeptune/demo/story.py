"""The acts of the demo, in their order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keeptune.demo import policy
from keeptune.demo.data import KNOCKED, Camera, load
from keeptune.demo.processes import PartError
from keeptune.demo.screen import Screen
from keeptune.demo.timeline import Summary, Timeline, summarize
from keeptune.demo.traffic import Scene, Traffic
from keeptune.demo.watching import View, Watcher
from keeptune.v1 import retuning_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from keeptune.demo.stage import Stage

_REQUIRED_DROP = 0.15
_ALLOWED_LOSS = 0.03
_AFTER_REQUESTS = 1000


@dataclass(frozen=True)
class Script:
    """What may be changed about a run."""

    seed: int = 0
    rate: float = 50.0
    calm_requests: int = 3000
    trials: int = 24
    sampling_rate: float = 0.75
    camera: Camera = KNOCKED
    act_seconds: float = 240.0
    # How long a request is tried again; 0 = the server is never away.
    retry_seconds: float = 0.0


class StoryError(Exception):
    """The loop did not close; the message says where it stopped."""


class Story:
    """One run on a stage; `timeline` grows while it goes on."""

    def __init__(self, stage: Stage, script: Script, console: Console) -> None:
        self.stage = stage
        self.script = script
        self.timeline = Timeline()
        self._start = time.monotonic()
        self._screen = Screen(console, self.timeline, self.seconds)
        self._watcher: Watcher | None = None
        self._background: list[asyncio.Task[None]] = []
        # For who has plans for that moment.
        self.camera_changed = asyncio.Event()

    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._start

    async def run(self) -> Summary:
        """All acts. Never raises for a loop that did not close: the summary tells."""
        problems: list[str] = []
        screen = asyncio.create_task(self._screen.run(self._view))
        try:
            await self._acts()
        except (StoryError, PartError) as error:
            problems.append(str(error))
            self._note("act", f"stopped: {error}")
        finally:
            screen.cancel()
            await asyncio.gather(screen, return_exceptions=True)
            await asyncio.to_thread(self.stage.stop)
            self._screen.flush()
        summary = summarize(
            self.timeline,
            seed=self.script.seed,
            sampling_rate=self.script.sampling_rate,
            seconds=self.seconds(),
            problems=problems,
        )
        problems.extend(shortcomings(summary, self.script))
        return summarize(
            self.timeline,
            seed=self.script.seed,
            sampling_rate=self.script.sampling_rate,
            seconds=summary.seconds,
            problems=problems,
        )

    async def _acts(self) -> None:
        digits = load(self.script.seed)
        folder = self.stage.folder
        parts = ", ".join(part.name for part in self.stage.control_parts)
        self._note("act", f"starting the control plane: {parts}")
        await self.stage.start_control_plane()
        self._note("act", "starting Triton and the agent on the serving host")
        await self.stage.start_serving_host()
        file = policy.write_policy(
            folder,
            training=digits.training.save(folder / "training.npz"),
            evaluation=digits.evaluation.save(folder / "evaluation.npz"),
            seed=self.script.seed,
            trials=self.script.trials,
            sampling_rate=self.script.sampling_rate,
        )
        self._note("act", f"keeptune policy apply -f {file.name}")
        await asyncio.to_thread(self.stage.run, "policy", "apply", "-f", str(file))
        scene = Scene(digits.served_first)
        retuning, search = self.stage.channel("retuning"), self.stage.channel("search")
        agent = self.stage.agent_channel()
        async with retuning, search, agent:
            self._watcher = Watcher(
                retuning=retuning,
                search=search,
                agent=agent,
                policy=f"policies/{policy.POLICY}",
                timeline=self.timeline,
                clock=self.seconds,
            )
            traffic = Traffic(
                triton=self.stage.triton_grpc,
                model=policy.MODEL,
                scene=scene,
                agent=agent,
                seed=self.script.seed,
                rate=self.script.rate,
                retry_seconds=self.script.retry_seconds,
                seen=self.timeline.add,
                clock=self.seconds,
            )
            self._background = [asyncio.create_task(self._watcher.run())]
            try:
                await self._first_version()
                self._note("act", f"traffic: {self.script.rate:.0f} requests a second, all calm")
                self._background.append(asyncio.create_task(traffic.run()))
                await self._until(
                    lambda: len(self.timeline.requests) >= self.script.calm_requests,
                    "the calm requests were served",
                )
                await self._until(self._all_ended, "the first bake was over")
                await self._drift(scene, digits.served_later)
            finally:
                for task in reversed(self._background):
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def _first_version(self) -> None:
        """Until it serves: its bake already wants to see requests."""
        await self._until(
            lambda: any(
                r.state == retuning_pb2.RETUNE_STATE_BAKING or r.HasField("end_time")
                for r in self._retunes()
            ),
            "version 1 was tuned and deployed",
        )
        first = self._retunes()[0]
        if first.HasField("end_time") and first.state != retuning_pb2.RETUNE_STATE_SUCCEEDED:
            raise StoryError(f"version 1 was not deployed: {first.reason}")

    async def _drift(self, scene: Scene, later: object) -> None:
        scene.camera = self.script.camera
        self.camera_changed.set()
        self.timeline.camera_changed = self.seconds()
        self._note("signal", "somebody knocks against the camera: contrast, focus, position")
        signals = len(self.timeline.signals)
        await self._until(
            lambda: len(self.timeline.signals) > signals, "the agent noticed the change"
        )
        swaps = len(self.timeline.swaps)
        await self._until(
            lambda: len(self.timeline.swaps) > swaps or self._newest_failed(),
            "version 2 answered requests",
        )
        if self._newest_failed():
            raise StoryError(f"the retune did not succeed: {self._ended()[-1].reason}")
        # From here on only digits that no version was trained on.
        scene.scans = later  # type: ignore[assignment]
        self._note("swap", f"version {self.timeline.swaps[-1][1]} serves")
        served = len(self.timeline.requests)
        await self._until(lambda: self._all_ended(), "the bake was over")
        await self._until(
            lambda: len(self.timeline.requests) >= served + _AFTER_REQUESTS,
            "enough requests were served by the new version",
        )
        await self.finale()

    async def finale(self) -> None:
        """The last act, with everything still running."""

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = self.seconds() + self.script.act_seconds
        while not condition():
            for task in self._background:
                if task.done():
                    task.result()
            for part in self.stage.parts.values():
                if part.failed:
                    raise PartError(f"{part.name} stopped by itself:\n{part.tail()}")
            if self.seconds() > deadline:
                raise StoryError(f"not within {self.script.act_seconds:.0f} s: {what}")
            await asyncio.sleep(0.05)

    def _view(self) -> View | None:
        return self._watcher.view if self._watcher else None

    def _retunes(self) -> list[retuning_pb2.Retune]:
        """All that were heard of, oldest first."""
        view = self._view()
        found = view.retunes.values() if view else ()
        return sorted(found, key=lambda r: r.metadata.create_time.ToNanoseconds())

    def _ended(self) -> list[retuning_pb2.Retune]:
        return [r for r in self._retunes() if r.HasField("end_time")]

    def _newest_failed(self) -> bool:
        ended = self._ended()
        return len(ended) > 1 and ended[-1].state != retuning_pb2.RETUNE_STATE_SUCCEEDED

    def _all_ended(self) -> bool:
        return all(r.HasField("end_time") for r in self._retunes())

    def _note(self, kind: str, text: str) -> None:
        self.timeline.note(self.seconds(), kind, text)


def shortcomings(summary: Summary, script: Script) -> list[str]:
    """Why a run that came to its end still does not count as a closed loop."""
    if summary.problems:
        return []
    before, drifted, after = (
        summary.accuracy_before or 0.0,
        summary.accuracy_drifted,
        summary.accuracy_after or 0.0,
    )
    checks = [
        (summary.failed_requests == 0, f"{summary.failed_requests} requests failed"),
        (summary.false_alarms == 0, f"{summary.false_alarms} false alarms"),
        (
            summary.calm_requests >= script.calm_requests,
            f"only {summary.calm_requests} calm requests",
        ),
        (summary.trials >= script.trials, f"only {summary.trials} trials"),
        (len(summary.versions) >= 2, f"served by {summary.versions} only"),
        (
            drifted is not None and drifted <= before - _REQUIRED_DROP,
            f"the camera cost too little accuracy: {before} to {drifted}",
        ),
        (
            after >= before - _ALLOWED_LOSS,
            f"accuracy came back to {after:.3f} only, from {before:.3f}",
        ),
    ]
    return [text for fine, text in checks if not fine]
