"""From datasets to prepared data, and what is said of broken ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.runtime.artifacts import ArtifactStore, to_proto
from keeptune.runtime.errors import InvalidInput
from keeptune.training.datasets.prepare import DataRequest, prepare
from keeptune.training.model import Task
from keeptune.training.trainers.protocol import TrainingData
from keeptune.v1.types_pb2 import Dataset

IRIS = "a,b,kind\n" + "".join(f"{i},{i * 2},{'even' if i % 2 == 0 else 'odd'}\n" for i in range(20))


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


def npz(path: Path, **arrays: Any) -> Dataset:
    np.savez(path, **arrays)
    return Dataset(uri=str(path))


def csv(path: Path, text: str = IRIS, **more: Any) -> Dataset:
    path.write_text(text)
    return Dataset(uri=str(path), target_column=more.pop("target", "kind"), **more)


def request(*datasets: Dataset, **more: Any) -> DataRequest:
    defaults: dict[str, Any] = {
        "task": Task.CLASSIFICATION,
        "validation_datasets": (),
        "validation_fraction": 0.25,
        "seed": 0,
    }
    return DataRequest(datasets=datasets, **{**defaults, **more})


def rows_of(data: TrainingData) -> int:
    return len(data.train) + len(data.validation)


def test_several_sources_are_put_together(tmp_path: Path, artifacts: ArtifactStore) -> None:
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    buffer = io.BytesIO()
    np.savez(buffer, x=x + 100, y=y)
    stored = artifacts.put_bytes_sync(
        buffer.getvalue(), media_type="application/x-npz", filename="more.npz"
    )
    data = prepare(
        request(npz(tmp_path / "a.npz", x=x, y=y), Dataset(artifact=to_proto(stored))), artifacts
    )
    assert rows_of(data) == 40
    everything = np.sort(np.concatenate([data.train.x, data.validation.x])[:, 0])
    np.testing.assert_array_equal(everything, np.sort(np.concatenate([x, x + 100])[:, 0]))


def test_labels_are_the_same_from_every_format(tmp_path: Path, artifacts: ArtifactStore) -> None:
    numbers = npz(tmp_path / "a.npz", x=np.zeros((24, 2)), y=np.arange(24) % 12)
    text = npz(tmp_path / "b.npz", x=np.zeros((24, 2)), y=(np.arange(24) % 12).astype(str))
    data = prepare(request(numbers, text), artifacts)
    assert data.classes == tuple(str(label) for label in range(12))


def test_the_split_is_stratified_and_repeatable(tmp_path: Path, artifacts: ArtifactStore) -> None:
    y = np.array([0] * 60 + [1] * 20 + [2] * 4)
    source = npz(tmp_path / "a.npz", x=np.arange(84.0)[:, None], y=y)
    first = prepare(request(source, seed=3), artifacts)
    again = prepare(request(source, seed=3), artifacts)
    other = prepare(request(source, seed=4), artifacts)
    assert np.bincount(first.validation.y).tolist() == [15, 5, 1]
    np.testing.assert_array_equal(first.validation.x, again.validation.x)
    assert not np.array_equal(first.validation.x, other.validation.x)


def test_a_class_of_one_row_is_trained_on(tmp_path: Path, artifacts: ArtifactStore) -> None:
    source = npz(tmp_path / "a.npz", x=np.zeros((9, 1)), y=np.array([0] * 8 + [1]))
    data = prepare(request(source), artifacts)
    assert np.bincount(data.train.y).tolist() == [6, 1]


def test_images_without_channels_get_one(tmp_path: Path, artifacts: ArtifactStore) -> None:
    source = npz(tmp_path / "a.npz", x=np.zeros((8, 5, 6), np.uint8), y=np.arange(8) % 2)
    assert prepare(request(source), artifacts).train.x.shape == (6, 1, 5, 6)


def test_missing_features_are_kept_for_the_trainer(
    tmp_path: Path, artifacts: ArtifactStore
) -> None:
    text = IRIS.replace("3,6,odd", "3,,odd")
    data = prepare(request(csv(tmp_path / "a.csv", text)), artifacts)
    assert data.feature_names == ("a", "b")
    assert np.isnan(np.concatenate([data.train.x, data.validation.x])).sum() == 1


def test_regression_reads_values(tmp_path: Path, artifacts: ArtifactStore) -> None:
    source = csv(tmp_path / "a.csv", target="b", feature_columns=["a"])
    data = prepare(request(source, task=Task.REGRESSION), artifacts)
    assert data.classes == ()
    np.testing.assert_array_equal(data.train.y, data.train.x[:, 0] * 2)


def test_validation_datasets_replace_the_split(tmp_path: Path, artifacts: ArtifactStore) -> None:
    held_out = csv(tmp_path / "b.csv", "a,b,kind\n1,2,odd\n")
    data = prepare(request(csv(tmp_path / "a.csv"), validation_datasets=(held_out,)), artifacts)
    assert (len(data.train), len(data.validation)) == (20, 1)
    assert data.classes[data.validation.y[0]] == "odd"


def refused(artifacts: ArtifactStore, wanted: DataRequest) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        prepare(wanted, artifacts)
    assert caught.value.violations
    return caught.value


def test_a_missing_file_is_named(tmp_path: Path, artifacts: ArtifactStore) -> None:
    good = csv(tmp_path / "a.csv")
    error = refused(artifacts, request(good, Dataset(uri=str(tmp_path / "gone.npz"))))
    assert error.field.startswith("training.datasets[1]")
    assert "gone.npz" in error.message


@pytest.mark.parametrize(
    ("arrays", "field", "words"),
    [
        ({"x": np.zeros((4, 2)), "y": np.zeros(4)}, "training.datasets", "one class"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "training.datasets[0]", "no rows"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "training.datasets[0]", "3"),
        ({"x": np.zeros((4, 2))}, "training.datasets[0].target_column", "'y'"),
        (
            {"x": np.zeros((4, 2)), "y": np.array([0, 1, np.nan, 1])},
            "training.datasets[0].target_column",
            "row 2",
        ),
        (
            {"x": np.array([[1, "a"]] * 4, dtype=object), "y": np.arange(4)},
            "training.datasets[0].feature_columns",
            "pickle",
        ),
        (
            {"x": np.full((4, 2), np.inf), "y": np.arange(4) % 2},
            "training.datasets[0].feature_columns",
            "infinite",
        ),
        ({"x": np.arange(2.0)[:, None], "y": np.arange(2)}, "training.datasets", "single row"),
    ],
)
def test_broken_archives_are_named(
    tmp_path: Path,
    artifacts: ArtifactStore,
    arrays: dict[str, Any],
    field: str,
    words: str,
) -> None:
    error = refused(artifacts, request(npz(tmp_path / "a.npz", **arrays)))
    assert error.field == field
    assert words in error.message


def test_a_wrong_column_is_named_with_near_misses(tmp_path: Path, artifacts: ArtifactStore) -> None:
    error = refused(artifacts, request(csv(tmp_path / "a.csv", target="kinds")))
    assert error.field == "training.datasets[0].target_column"
    assert "did you mean kind" in error.message


def test_text_among_the_features_is_named(tmp_path: Path, artifacts: ArtifactStore) -> None:
    error = refused(artifacts, request(csv(tmp_path / "a.csv", target="a")))
    assert error.field == "training.datasets[0].feature_columns"
    assert "'kind'" in error.message


def test_datasets_of_different_shapes_are_refused(tmp_path: Path, artifacts: ArtifactStore) -> None:
    y = np.arange(8) % 2
    wide = npz(tmp_path / "a.npz", x=np.zeros((8, 3)), y=y)
    narrow = npz(tmp_path / "b.npz", x=np.zeros((8, 2)), y=y)
    error = refused(artifacts, request(wide, narrow))
    assert error.field == "training.datasets[1]"
    assert "[2]" in error.message
    assert "[3]" in error.message


def test_columns_in_another_order_are_refused(tmp_path: Path, artifacts: ArtifactStore) -> None:
    swapped = csv(tmp_path / "b.csv", feature_columns=["b", "a"])
    error = refused(artifacts, request(csv(tmp_path / "a.csv"), swapped))
    assert error.field == "training.datasets[1].feature_columns"


def test_an_unknown_validation_label_is_refused(tmp_path: Path, artifacts: ArtifactStore) -> None:
    strange = csv(tmp_path / "b.csv", "a,b,kind\n1,2,neither\n")
    error = refused(artifacts, request(csv(tmp_path / "a.csv"), validation_datasets=(strange,)))
    assert error.field == "training.validation_datasets[0]"
    assert "'neither'" in error.message
