"""Keeps the host serving: follows Triton, probes what serves, and goes back when a bake fails.

All of it works without the control plane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from keeptune.agent.carrier import Carrier, first_line
from keeptune.agent.health import ModelHealth
from keeptune.agent.host_store import Bake, HostStore
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_model import ModelLoadFailed
from keeptune.agent.updates import ModelUpdater
from keeptune.agent.watcher import Watcher
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import DeadlineExceeded, KeeptuneError, Unavailable

log = structlog.get_logger()

POLL_SECONDS = 1.0
_CANARY_SECONDS = 10.0
_CANARY_SECONDS_IN_BAKE = 1.0
_REPAIR_SECONDS = 30.0

Starts = Callable[[], int]
"""How often Triton has been started, so that a restart shows; 0 = not known."""


@dataclass(frozen=True)
class TritonState:
    """`starts`: of the Triton whose models were last restored; 0 = not known."""

    ready: bool = False
    version: str = ""
    reason: str = "not asked yet"
    starts: int = 0


@dataclass
class _Probe:
    """The last canary of a model's served version, and the last repair; monotonic seconds."""

    version: int = 0
    at: float = float("-inf")
    repaired_at: float = float("-inf")
    problem: str = ""
    sent: int = 0


class _Absence:
    """Of a version that should serve and does not: when its model is to be restored again."""

    def __init__(self) -> None:
        self._backoff = Backoff(initial=POLL_SECONDS, maximum=_REPAIR_SECONDS, jitter=0.0)
        self._again = float("-inf")

    def due(self, now: float) -> bool:
        """At once, then ever more rarely; monotonic seconds."""
        if now < self._again:
            return False
        self._again = now + self._backoff.next()
        return True


class Keeper:
    def __init__(
        self,
        *,
        triton: TritonClient,
        starts: Starts,
        updater: ModelUpdater,
        health: ModelHealth,
        carrier: Carrier,
        watcher: Watcher,
        store: HostStore,
        clock: Clock,
        changed: Callable[[str], None],
    ) -> None:
        self._triton = triton
        self._starts = starts
        self._updater = updater
        self._health = health
        self._carrier = carrier
        self._watcher = watcher
        self._store = store
        self._clock = clock
        self._changed = changed
        self._ready: dict[str, set[int]] = {}
        self._probes: dict[str, _Probe] = {}
        self._absences: dict[str, _Absence] = {}
        self._started = 0
        self._restored = False
        self.state = TritonState()

    async def look(self) -> None:
        """One look at everything, about once a second."""
        self._watcher.sync(self._carrier)
        try:
            await self._look_at_triton()
        except (Unavailable, DeadlineExceeded) as error:
            # Whatever it did before, a Triton that comes back is to be looked at anew.
            self._restored = False
            self._set_state(replace(self.state, ready=False, reason=error.message))
            return
        for model in list(self._watcher.watches):
            if not self._carrier.busy(model):
                await self._look_at_model(model)

    async def refresh(self) -> None:
        """Asks Triton what it serves now; after a change, so that reports tell it at once."""
        try:
            await self._read_index()
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("keeper.not_refreshed", why=error.message)

    def ready(self, model: str) -> set[int] | None:
        """The versions that Triton served at the last look; None while it does not answer."""
        return self._ready.get(model, set()) if self.state.ready else None

    def problem(self, model: str) -> str:
        """Why what serves is not healthy; empty when it is."""
        watch = self._watcher.watches.get(model)
        if watch is None:
            return "nothing serves"
        if not self.state.ready:
            return f"Triton: {self.state.reason}"
        if watch.number not in self._ready.get(model, set()):
            return f"version {watch.number} is not ready in Triton"
        probe = self._probes.get(model)
        if probe is not None and probe.version == watch.number and probe.problem:
            return probe.problem
        return watch.breach()

    def canaries(self, model: str) -> int:
        """How many probes the served version's counters may hold."""
        probe = self._probes.get(model)
        return probe.sent if probe is not None else 0

    async def _look_at_triton(self) -> None:
        self._notice_a_start()
        if self._restored:
            await self._read_index()
        else:
            info = await self._triton.server()
            await self._restore()
            await self._read_index()
            # Only now: until the index was read, nothing may be said of what is not in it.
            self._restored = True
            self._set_state(TritonState(True, info.version, "", self._started))
        self._watcher.poll(await self._triton.statistics(), self._clock.now().timestamp())

    def _notice_a_start(self) -> None:
        """Triton may go and be back between two looks: nothing known of it holds any more."""
        started = self._starts()
        if started in (0, self._started):
            return
        if self._started:
            log.warning("triton.restarted", starts=started)
        self._started = started
        self._restored = False
        self._probes.clear()
        self._absences.clear()

    async def _read_index(self) -> None:
        ready: dict[str, set[int]] = {}
        for entry in await self._triton.index():
            if entry.ready:
                ready.setdefault(entry.model, set()).add(entry.version)
        self._ready = ready

    async def _restore(self) -> None:
        """Triton serves what the disk says; after each start of either."""
        for restored in await self._updater.restore():
            log.info(
                "model.restored",
                model=restored.model,
                serving=restored.serving,
                problem=restored.problem,
            )

    def _set_state(self, state: TritonState) -> None:
        before, self.state = self.state, state
        if state.ready != before.ready:
            log.info("triton.state", ready=state.ready, why=state.reason)
        if (state.ready, state.starts) != (before.ready, before.starts):
            self._changed("")

    async def _look_at_model(self, model: str) -> None:
        before = self.problem(model)
        bake = self._store.record(model).bake
        watch = self._watcher.watches[model]
        if watch.number not in self._ready.get(model, set()):
            # Not there to be judged, and `problem` says so: its load failed, or somebody else
            # unloaded it or started Triton again.
            if self._absences.setdefault(model, _Absence()).due(self._clock.monotonic()):
                self._restored = False
            return
        self._absences.pop(model, None)
        baking = bake is not None and bake.version == watch.number
        await self._probe(model, watch.number, baking=baking)
        if baking:
            assert bake is not None
            await self._look_at_bake(model, bake)
        elif self._probes[model].problem:
            await self._repair(model)
        if (self.problem(model) == "") != (before == ""):
            self._changed(model)

    async def _probe(self, model: str, version: int, *, baking: bool) -> None:
        probe = self._probes.setdefault(model, _Probe())
        if probe.version != version:
            self._probes[model] = probe = _Probe(version)
        now = self._clock.monotonic()
        if now - probe.at < (_CANARY_SECONDS_IN_BAKE if baking else _CANARY_SECONDS):
            return
        probe.at = now
        probe.sent += 1
        example = self._watcher.example(model)
        health = await self._health.probe(model, version, example or None)
        probe.problem = first_line(health.problem)

    async def _look_at_bake(self, model: str, bake: Bake) -> None:
        """A breach goes back at once; a bake that has lasted long enough is over."""
        problem = self._probes[model].problem or self._watcher.watches[model].breach()
        if problem:
            if bake.previous:
                await self._carrier.go_back(model, bake, problem)
        elif self._clock.now().timestamp() >= bake.until:
            await self._carrier.end_bake(model, bake)

    async def _repair(self, model: str) -> None:
        """A version that once answered and does not any more is loaded anew, now and then."""
        probe = self._probes[model]
        now = self._clock.monotonic()
        if now - probe.repaired_at < _REPAIR_SECONDS:
            return
        probe.repaired_at = now
        try:
            results = await self._health.repair(model, self._watcher.example(model) or None)
        except ModelLoadFailed as error:
            probe.problem = first_line(error.message)
            return
        probe.problem = next(
            (first_line(result.problem) for result in results if result.problem), ""
        )

    async def run(self) -> None:
        """For ever; what fails in one look is logged and looked at again."""
        while True:
            try:
                await self.look()
            except KeeptuneError as error:
                log.warning("keeper.look_failed", why=error.message)
            await self._clock.sleep(POLL_SECONDS)
