"""What this host says of itself: its parts, and every model as it stands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from keeptune.agent.carrier import Carrier
from keeptune.agent.host_store import HostStore, version_name
from keeptune.agent.keeper import Keeper
from keeptune.agent.watcher import Watcher
from keeptune.v1 import deployment_pb2

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Reporter:
    def __init__(
        self,
        *,
        carrier: Carrier,
        keeper: Keeper,
        watcher: Watcher,
        store: HostStore,
        backends: Sequence[str],
        labels: Mapping[str, str],
    ) -> None:
        self._carrier = carrier
        self._keeper = keeper
        self._watcher = watcher
        self._store = store
        self._backends = tuple(backends)
        self._labels = dict(labels)
        self._version = metadata.version("keeptune")

    def info(self) -> deployment_pb2.HostInfo:
        return deployment_pb2.HostInfo(
            agent_version=self._version,
            triton_version=self._keeper.state.version,
            backends=self._backends,
            labels=self._labels,
            agent_rss_bytes=resident_bytes(),
            triton_ready=self._keeper.state.ready,
        )

    def triton_starts(self) -> int:
        """How often Triton has been started on this host; 0 = not known."""
        return self._keeper.state.starts

    def models(self) -> list[deployment_pb2.ServedModel]:
        return [self._model(model) for model in self._carrier.models()]

    def _model(self, model: str) -> deployment_pb2.ServedModel:
        actual = self._carrier.observe(model)
        ready = self._keeper.ready(model)
        # What is written down but not loaded yet does not serve.
        loaded = sorted(actual.loaded if ready is None else ready & set(actual.loaded))
        serving, standby = ([0, 0, *loaded])[-1], ([0, 0, *loaded])[-2]
        watch = self._watcher.watches.get(model)
        problem = self._keeper.problem(model)
        served = deployment_pb2.ServedModel(
            model=f"models/{model}",
            serving=version_name(model, serving),
            standby=version_name(model, standby),
            staged=version_name(model, actual.staged),
            healthy=bool(serving) and not problem,
            reason=self._reason(model, problem if actual.serving else ""),
        )
        if watch is not None and watch.number == serving:
            served.statistics.CopyFrom(
                watch.statistics(
                    served.serving,
                    dropped=self._watcher.dropped,
                    pending=self._watcher.pending_rows(model),
                )
            )
            users = served.statistics.requests - self._keeper.canaries(model)
            served.statistics.requests = max(users, 0)
        return served

    def _reason(self, model: str, problem: str) -> str:
        """The worst first: what is wrong now, why it went back, what is not watched."""
        watch = self._watcher.watches.get(model)
        notes = watch.said() if watch is not None else ()
        return "; ".join(filter(None, (problem, self._store.record(model).note, *notes)))


def resident_bytes() -> int:
    """Memory of this process that is in use, RSS."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
