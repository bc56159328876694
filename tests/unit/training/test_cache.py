"""Prepared data are kept once for each content, mapped, and pruned."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keeptune.training.datasets.cache import DatasetCache, content_key, open_data
from keeptune.training.model import Task
from keeptune.training.trainers.protocol import Rows, TrainingData


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
