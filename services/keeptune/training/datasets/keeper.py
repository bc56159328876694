"""Prepared data of trainings: made when one is admitted, made again when the cache lost them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.training.datasets.cache import DatasetCache
from keeptune.training.datasets.prepare import DataRequest, prepare
from keeptune.training.model import Training
from keeptune.training.trainers.protocol import TrainingData


class DataKeeper:
    """The slow work runs in threads, beside the event loop."""

    def __init__(self, cache: DatasetCache, artifacts: ArtifactStore) -> None:
        self._cache = cache
        self._artifacts = artifacts

    def folder(self, key: str) -> Path:
        return self._cache.path(key)

    async def prepare(self, training: Training) -> TrainingData:
        """Raises InvalidInput that names the dataset and the column."""
        request = DataRequest(
            task=training.task,
            datasets=training.datasets,
            validation_datasets=training.validation_datasets,
            validation_fraction=training.validation_fraction,
            seed=training.seed,
        )
        return await asyncio.to_thread(prepare, request, self._artifacts)

    async def keep(self, data: TrainingData) -> str:
        """Their key."""
        return await asyncio.to_thread(self._cache.put, data)

    async def ensure(self, training: Training) -> bool:
        """Whether the data of the training's key are there, if need be made again.

        False when the datasets have changed since. Raises InvalidInput when they are gone.
        """
        if training.data_key in self._cache:
            return True
        return await self.keep(await self.prepare(training)) == training.data_key

    async def prune(self, keep: Collection[str]) -> None:
        await asyncio.to_thread(self._cache.prune, keep)
