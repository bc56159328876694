"""What the services and the agent say, as it happens, written into the timeline.

Each follower resumes after the last revision it saw when its service is away for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import grpc

from keeptune.runtime.calls import calling
from keeptune.runtime.errors import KeeptuneError
from keeptune.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    retuning_pb2,
    retuning_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keeptune.demo.timeline import Timeline

    Clock = Callable[[], float]

_PAUSE_SECONDS = 0.5
_MEASURED = (search_pb2.TRIAL_STATE_COMPLETED, search_pb2.TRIAL_STATE_PRUNED)
_FINISHED = (*_MEASURED, search_pb2.TRIAL_STATE_INFEASIBLE, search_pb2.TRIAL_STATE_FAILED)


@dataclass
class Progress:
    """How far a study is, from the events of its trials; each may be heard any number of times.

    The study itself is not sent for each of its trials, so its counts would lag behind.
    """

    max_trials: int = 0
    _states: dict[str, search_pb2.TrialState.ValueType] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        return sum(state in _FINISHED for state in self._states.values())

    @property
    def pruned(self) -> int:
        return sum(state == search_pb2.TRIAL_STATE_PRUNED for state in self._states.values())

    def hear(self, trial: search_pb2.Trial) -> bool:
        """Whether this is the first news of its final measurement."""
        known = self._states.get(trial.name)
        self._states[trial.name] = trial.state
        return trial.state in _MEASURED and known not in _MEASURED


@dataclass
class View:
    """The newest that was heard, for the screen."""

    retune: retuning_pb2.Retune = field(default_factory=retuning_pb2.Retune)
    retunes: dict[str, retuning_pb2.Retune] = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    studies: dict[str, Progress] = field(default_factory=dict)
    agent: agent_pb2.AgentStatus = field(default_factory=agent_pb2.AgentStatus)

    def ended(self, name: str) -> bool:
        found = self.retunes.get(name)
        return found is not None and found.HasField("end_time")


class Watcher:
    """Follows a control plane and an agent until cancelled."""

    def __init__(
        self,
        *,
        retuning: grpc.aio.Channel,
        search: grpc.aio.Channel,
        agent: grpc.aio.Channel,
        policy: str,
        timeline: Timeline,
        clock: Clock,
    ) -> None:
        self.view = View()
        self._retuning = retuning_pb2_grpc.RetuningServiceStub(retuning)
        self._search = search_pb2_grpc.SearchServiceStub(search)
        self._agent = agent_pb2_grpc.AgentServiceStub(agent)
        self._policy = policy
        self._timeline = timeline
        self._clock = clock
        self._revisions = {"retunes": 0, "signals": 0}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_persist(self._follow_retunes))
            group.create_task(_persist(self._follow_signals))
            group.create_task(_persist(self._poll_agent))
            following: set[str] = set()
            while True:
                study = self.view.retune.study
                if study and study not in following:
                    following.add(study)
                    group.create_task(_persist(partial(self._follow_study, study)))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow_retunes(self) -> None:
        call = self._retuning.WatchRetunes(
            retuning_pb2.WatchRetunesRequest(
                policy=self._policy, revision=self._revisions["retunes"]
            )
        )
        async for event in call:
            self._revisions["retunes"] = event.revision
            before = self.view.retunes.get(event.retune.name)
            self.view.retunes[event.retune.name] = event.retune
            self.view.retune = event.retune
            if before is None or before.state != event.retune.state:
                state = retuning_pb2.RetuneState.Name(event.retune.state)
                self._timeline.note(
                    self._clock(),
                    "retune",
                    f"{event.retune.name} {state.removeprefix('RETUNE_STATE_')}: "
                    f"{event.retune.reason}",
                )

    async def _follow_signals(self) -> None:
        call = self._agent.WatchSignals(
            agent_pb2.WatchSignalsRequest(revision=self._revisions["signals"])
        )
        async for event in call:
            self._revisions["signals"] = event.revision
            if event.signal.id in self.view.signals:
                continue
            self.view.signals.append(event.signal.id)
            self._timeline.signals.append(self._clock())
            self._timeline.note(self._clock(), "signal", event.signal.summary)

    async def _follow_study(self, name: str) -> None:
        trials = self._timeline.trials.setdefault(name, [])
        progress = self.view.studies.setdefault(name, Progress())
        call = self._search.WatchStudy(search_pb2.WatchStudyRequest(study=name))
        async for event in call:
            match event.WhichOneof("event"):
                case "study":
                    progress.max_trials = event.study.budget.max_trials
                case "trial" if progress.hear(event.trial):
                    metrics = event.trial.final_measurement.metrics
                    values = [metrics["accuracy"]] if "accuracy" in metrics else metrics.values()
                    trials.append((self._clock(), next(iter(values), float("nan"))))
                case _:
                    pass

    async def _poll_agent(self) -> None:
        while True:
            self.view.agent = await calling(self._agent.GetStatus(agent_pb2.GetStatusRequest()))
            self._timeline.agent_rss_mb.append(self.view.agent.info.agent_rss_bytes / 1e6)
            for model in self.view.agent.models:
                self._timeline.drift_levels.append((self._clock(), model.statistics.drift_level))
            await asyncio.sleep(_PAUSE_SECONDS)


async def _persist(follow: Callable[[], Awaitable[None]]) -> None:
    """Again after every break: the other side may be restarting."""
    while True:
        with contextlib.suppress(KeeptuneError, grpc.RpcError):
            await follow()
        await asyncio.sleep(_PAUSE_SECONDS)
