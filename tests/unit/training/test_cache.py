"""Prepared data are kept once for each content, mapped, and pruned."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.errors import InvalidInput, ResourceExhausted
from keeptune.training.datasets.cache import DatasetCache, content_key, open_data
from keeptune.training.datasets.keeper import DataKeeper
from keeptune.training.model import Task, Training
from keeptune.training.trainers.protocol import Rows, TrainingData
from keeptune.v1.types_pb2 import Dataset


def make(fill: float = 0.0) -> TrainingData:
    x = np.full((6, 2), fill, dtype=np.float32)
    y = np.arange(6) % 2
    return TrainingData(Task.CLASSIFICATION, Rows(x[:4], y[:4]), Rows(x[4:], y[4:]), ("a", "b"))


def test_data_come_back_mapped_and_read_only(tmp_path: Path) -> None:
    cache = DatasetCache(tmp_path / "datasets")
    key = cache.put(make(3.0))
    data = open_data(cache.path(key))
    assert isinstance(data.train.x, np.memmap)
    assert (data.classes, data.task) == (("a", "b"), Task.CLASSIFICATION)
    np.testing.assert_array_equal(data.validation.x, make(3.0).validation.x)
    with pytest.raises(ValueError, match="read-only"):
        data.train.x[0] = 1


def test_the_key_is_of_all_content() -> None:
    data = make()
    assert content_key(data) == content_key(make())
    others = [make(1.0), replace(data, classes=("a", "c")), replace(data, feature_names=("u", "v"))]
    assert len({content_key(each) for each in (data, *others)}) == 4


def test_the_same_content_is_written_once(tmp_path: Path) -> None:
    cache = DatasetCache(tmp_path)
    key = cache.put(make())
    before = (cache.path(key) / "x_train.npy").stat().st_ino
    assert cache.put(make()) == key
    assert (cache.path(key) / "x_train.npy").stat().st_ino == before
    assert os.listdir(tmp_path) == [key]


def test_prune_keeps_what_is_wanted_and_the_latest(tmp_path: Path) -> None:
    cache = DatasetCache(tmp_path)
    keys = [cache.put(make(float(fill))) for fill in range(5)]
    for age, key in enumerate(reversed(keys)):
        os.utime(cache.path(key), (1e9 - age, 1e9 - age))
    cache.prune(keep={keys[0]}, spare=2)
    assert [key in cache for key in keys] == [True, False, False, True, True]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = DatasetCache(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = replace(make(), train=Rows(np.zeros((9000, 2), np.float32), np.zeros(9000, int)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ResourceExhausted) as caught:
            cache.put(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "DISK_FULL"
    assert os.listdir(tmp_path) == []
    assert cache.put(data) in cache


async def test_lost_data_are_made_again_unless_the_source_changed(tmp_path: Path) -> None:
    source = tmp_path / "a.npz"
    np.savez(source, x=np.arange(20.0).reshape(10, 2), y=np.arange(10) % 2)
    training = Training(
        "trainers/tabular", Task.CLASSIFICATION, (Dataset(uri=str(source)),), study="studies/s"
    )
    cache = DatasetCache(tmp_path / "cache")
    keeper = DataKeeper(cache, ArtifactStore((tmp_path / "artifacts").as_uri()))
    key = await keeper.keep(await keeper.prepare(training))
    training = replace(training, data_key=key)
    shutil.rmtree(cache.path(key))
    assert await keeper.ensure(training)
    assert key in cache
    shutil.rmtree(cache.path(key))
    np.savez(source, x=np.arange(20.0).reshape(10, 2) + 1, y=np.arange(10) % 2)
    assert not await keeper.ensure(training)
    source.unlink()
    with pytest.raises(InvalidInput):
        await keeper.ensure(training)
