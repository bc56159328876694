"""Datasets of all three formats, and what is refused, with the field that is to blame."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from keeptune.runtime.artifacts import ArtifactStore, to_proto
from keeptune.runtime.datasets import check_dataset, dataset_name, read_dataset
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2

REGRESSION = types_pb2.TASK_REGRESSION


def npz(path: Path, **arrays: Any) -> types_pb2.Dataset:
    np.savez(path, **arrays)
    return types_pb2.Dataset(uri=str(path))


def csv(path: Path, text: str, **options: Any) -> types_pb2.Dataset:
    path.write_text(text)
    return types_pb2.Dataset(uri=path.as_uri(), **options)


def test_images_get_a_channel_and_labels_become_text(tmp_path: Path) -> None:
    data = npz(tmp_path / "digits.npz", x=np.ones((3, 4, 5), np.uint8), y=np.array([0, 7, 3]))
    table = read_dataset(data)
    assert table.name == "digits"
    assert table.x.shape == (3, 1, 4, 5)
    assert table.x.dtype == np.float32
    assert table.y.tolist() == ["0", "7", "3"]


def test_npz_slices_and_columns_by_name(tmp_path: Path) -> None:
    data = npz(
        tmp_path / "d.npz",
        a=np.array([1.0, 2.0]), b=np.array([[3], [4]]), label=np.array([b"no", b"yes"]),
        day=np.array([1, 2]),
    )  # fmt: skip
    data.feature_columns.extend(["b", "a"])
    data.target_column = "label"
    data.slice_columns.append("day")
    table = read_dataset(data)
    assert table.x.tolist() == [[3, 1], [4, 2]]
    assert table.feature_names == ("b", "a")
    assert table.y.tolist() == ["no", "yes"]
    assert table.slices["day"].tolist() == ["1", "2"]


def test_csv_labels_are_taken_as_written(tmp_path: Path) -> None:
    data = csv(tmp_path / "d.csv", "a,city,b,code\n1,Rome,0.5,007\n2,Oslo,1.5,7\n",
               target_column="code", slice_columns=["city"])  # fmt: skip
    table = read_dataset(data)
    assert table.y.tolist() == ["007", "7"]
    assert table.feature_names == ("a", "b")
    assert table.x.tolist() == [[1, 0.5], [2, 1.5]]
    assert table.slices["city"].tolist() == ["Rome", "Oslo"]


def test_parquet_regression_from_the_artifact_store(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"a": [1, 2], "t": [0.1, 1e9], "b": [True, False]}), buffer)
    store = ArtifactStore(f"file://{tmp_path / 'blobs'}")
    artifact = store.put_bytes_sync(
        buffer.getvalue(), media_type="application/vnd.apache.parquet", filename="houses.parquet"
    )
    data = types_pb2.Dataset(artifact=to_proto(artifact), target_column="t")
    check_dataset(data, store)
    table = read_dataset(data, store, task=REGRESSION)
    assert table.y.dtype == np.float64
    assert table.y.tolist() == [0.1, 1e9]
    assert table.x.tolist() == [[1, 1], [2, 0]]
    assert table.name == "houses"


def test_the_models_own_feature_names_are_the_default(tmp_path: Path) -> None:
    data = csv(tmp_path / "d.csv", "b,a,extra,t\n1,2,3,x\n", target_column="t")
    assert read_dataset(data, feature_names=("a", "b")).x.tolist() == [[2, 1]]


def test_a_csv_regression_target_must_be_numbers(tmp_path: Path) -> None:
    good = csv(tmp_path / "g.csv", "a,t\n1,2.5\n", target_column="t")
    assert read_dataset(good, task=REGRESSION).y.tolist() == [2.5]
    bad = csv(tmp_path / "b.csv", "a,t\n1,much\n", target_column="t")
    with pytest.raises(InvalidInput, match="holds no numbers") as caught:
        read_dataset(bad, task=REGRESSION)
    assert caught.value.field == "dataset.target_column"


@pytest.mark.parametrize(
    ("arrays", "field", "message"),
    [
        ({"x": np.ones((2, 2)), "y": np.array([1, None])}, "target_column", "pickle"),
        ({"x": np.ones((2, 2)), "y": np.array([1.0, np.nan])}, "target_column", "row 1"),
        ({"x": np.array([[1.0], [np.inf]]), "y": [1, 2]}, "feature_columns", "not finite"),
        ({"x": np.array([[1e300], [1]]), "y": [1, 2]}, "feature_columns", "not finite"),
        ({"x": np.ones((3, 2)), "y": [1, 2]}, "", "3 rows of 'features' and 2 of 'y'"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "", "has no rows"),
        ({"x": np.ones((2, 2))}, "target_column", "names 'y'"),
        ({"xs": np.ones((2, 2)), "y": [1, 2]}, "feature_columns", "did you mean xs"),
        ({"x": np.ones((2, 2)), "y": np.ones((2, 3))}, "target_column", r"shape \[2, 3\]"),
        ({"x": np.ones((2, 2)), "y": 5}, "target_column", "a single number"),
        ({"x": np.array([["a"], ["b"]]), "y": [1, 2]}, "feature_columns", "holds no numbers"),
    ],
)
def test_broken_npz(tmp_path: Path, arrays: dict[str, Any], field: str, message: str) -> None:
    data = npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_dataset(data, field="evaluation.datasets[2]")
    expected = f"evaluation.datasets[2].{field}" if field else "evaluation.datasets[2]"
    assert caught.value.field == expected


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(InvalidInput, match="cut short"):
        read_dataset(types_pb2.Dataset(uri=str(path)))


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("a,t\n1\n", "uri", "cannot be read as CSV"),
        ("a,t\n1,x\n2,\n", "target_column", "'t' has no value in 1 of 2 rows, first in row 1"),
        ("a,t\n1,x\n,y\n", "feature_columns", "missing or not finite"),
        ("a,t\nred,x\n", "feature_columns", "holds no numbers"),
        ("a,a,t\n1,2,x\n", "uri", "two columns 'a'"),
        ("a,tt\n1,x\n", "target_column", "did you mean tt"),
        ("a,t\n", "", "has no rows"),
        ("t\nx\n", "feature_columns", "leaves no feature"),
        ("", "uri", "cannot be read as CSV"),
    ],
)
def test_broken_csv(tmp_path: Path, text: str, field: str, message: str) -> None:
    data = csv(tmp_path / "d.csv", text, target_column="t")
    with pytest.raises(InvalidInput, match=message) as caught:
        read_dataset(data)
    assert caught.value.field == (f"dataset.{field}" if field else "dataset")


@pytest.mark.parametrize(
    ("dataset", "field", "message"),
    [
        (types_pb2.Dataset(uri="/nowhere/d.npz"), "uri", "does not exist"),
        (types_pb2.Dataset(uri="/tmp", format=1), "uri", "is a folder"),
        (types_pb2.Dataset(uri="/tmp/data.bin"), "format", "cannot be told"),
        (types_pb2.Dataset(uri="http://x/d.npz"), "uri", "give a path"),
        (types_pb2.Dataset(uri="simplecache::s3://b/d.npz"), "uri", "give a path"),
    ],
)
def test_sources_that_are_refused(dataset: types_pb2.Dataset, field: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        check_dataset(dataset)
    assert caught.value.field == f"dataset.{field}"


def test_the_target_cannot_be_a_feature(tmp_path: Path) -> None:
    data = csv(tmp_path / "d.csv", "a,t\n1,x\n", target_column="t", feature_columns=["a", "t"])
    with pytest.raises(InvalidInput, match="must not see the answer"):
        check_dataset(data)


def test_check_finds_missing_columns_without_reading_rows(tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", x=np.full((2, 2), np.nan), y=[1, 2])
    check_dataset(data)
    data.slice_columns.append("citty")
    with pytest.raises(InvalidInput, match="'citty'") as caught:
        check_dataset(data)
    assert caught.value.field == "dataset.slice_columns"


def test_an_artifact_that_is_not_there(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    artifact = types_pb2.Artifact(sha256="ab" * 32, filename="d.npz")
    with pytest.raises(InvalidInput, match="upload it again") as caught:
        read_dataset(types_pb2.Dataset(artifact=artifact), store)
    assert caught.value.field == "dataset.artifact"


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (types_pb2.Dataset(uri="s3://bucket/a/test.npz"), "test"),
        (types_pb2.Dataset(uri="/data/my%20set.csv"), "my set"),
        (types_pb2.Dataset(uri="/data/x.npz", display_name="recent"), "recent"),
        (types_pb2.Dataset(artifact=types_pb2.Artifact(sha256="c" * 64)), "c" * 12),
    ],
)
def test_names(dataset: types_pb2.Dataset, name: str) -> None:
    assert dataset_name(dataset) == name
