"""Tells whether what should serve does, and mends a version whose process has died.

A python model whose stub was killed fails every request while Triton still says it is ready, so
only an inference tells. Its repair is to load the version anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from keeptune.agent.tensors import Array
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_model import InferenceFailed
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime.errors import NotFound

log = structlog.get_logger()


@dataclass(frozen=True)
class VersionHealth:
    model: str
    version: int
    problem: str
    """Why the version does not serve; empty when it does."""

    @property
    def healthy(self) -> bool:
        return not self.problem


class ModelHealth:
    """Canary inferences of the versions that the disk says are served."""

    def __init__(
        self, triton: TritonClient, updater: ModelUpdater, *, canary_seconds: float = 10.0
    ) -> None:
        self._triton = triton
        self._updater = updater
        self._canary_seconds = canary_seconds

    async def check(
        self, model: str, inputs: Mapping[str, Array] | None = None
    ) -> tuple[VersionHealth, ...]:
        """One canary a served version, of `inputs` or of zeros.

        Raises TritonUnavailable or TritonHangs when the server as a whole does not answer.
        """
        state = await self._updater.state(model)
        return tuple([await self.probe(model, version, inputs) for version in state.serving])

    async def probe(
        self, name: str, version: int, inputs: Mapping[str, Array] | None = None
    ) -> VersionHealth:
        """One canary of one version; `name` may be a staged challenger's."""
        try:
            signature = await self._triton.signature(name, version)
            await self._triton.canary(
                name, signature, version=version, inputs=inputs, seconds=self._canary_seconds
            )
        except (InferenceFailed, NotFound) as error:
            return VersionHealth(name, version, error.message)
        return VersionHealth(name, version, "")

    async def repair(
        self, model: str, inputs: Mapping[str, Array] | None = None
    ) -> tuple[VersionHealth, ...]:
        """Checks every served version and loads the unhealthy ones anew; returns what holds then.

        Raises ModelLoadFailed when Triton refuses to load a version that it once took.
        """
        result: list[VersionHealth] = []
        for health in await self.check(model, inputs):
            if health.healthy:
                result.append(health)
                continue
            log.warning("model.repair", model=model, version=health.version, why=health.problem)
            await self._updater.reload(model, health.version)
            result.append(await self.probe(model, health.version, inputs))
        return tuple(result)
