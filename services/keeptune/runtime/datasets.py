"""Reads datasets: NPZ, CSV or Parquet, from a path, a URL or the artifact store, into arrays.

Training and evaluation read the same rows by the same rules. Data is never code: pickled arrays
are refused. Every error is InvalidInput and names the field, the column and the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime import sources
from keeptune.runtime.columns import Columns, NpzColumns, TableColumns
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2

if TYPE_CHECKING:
    from keeptune.runtime.artifacts import ArtifactStore

F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True)
class Table:
    """Rows of one dataset.

    x: float32 [rows, ...]: [rows, features], or [rows, channels, height, width] for images.
    y: labels as text for classification, float64 for regression; [rows].
    slices: per slice column its values as text, [rows].
    feature_names: of the columns of x; empty when x came as one array.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.generic]
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.y)


def dataset_name(dataset: types_pb2.Dataset) -> str:
    """Its display name, or else the name of its file without the suffix."""
    if dataset.display_name:
        return dataset.display_name
    if dataset.WhichOneof("source") == "artifact":
        return PurePosixPath(dataset.artifact.filename).stem or dataset.artifact.sha256[:12]
    return PurePosixPath(unquote(urlsplit(dataset.uri).path)).stem[:63] or "dataset"


def read_dataset(
    dataset: types_pb2.Dataset,
    artifacts: ArtifactStore | None = None,
    *,
    task: types_pb2.Task.ValueType = types_pb2.TASK_CLASSIFICATION,
    feature_names: tuple[str, ...] = (),
    allow_missing: bool = False,
    field: str = "dataset",
) -> Table:
    """All rows, checked: nothing missing, nothing infinite, at least one row.

    Labels are text (`str` of an integer). `feature_names` stand in for `feature_columns` when the
    dataset names none. With `allow_missing` features may be NaN, targets never. `field` is the
    dataset's path in the request, for errors. Blocks: call it in a thread or a worker process.
    """
    columns = _open(dataset, artifacts, task, field)
    features, target = _choose(dataset, columns, feature_names, field)
    raw = _flat(columns, target, f"{field}.target_column")
    if len(raw) == 0:
        raise InvalidInput(field=field, problem="has no rows", fix="give at least one row")
    x, names = _features(columns, features, field, allow_missing)
    y: NDArray[np.generic]
    if task == types_pb2.TASK_REGRESSION:
        y = _numbers(raw, target, f"{field}.target_column", np.float64)
    else:
        y = texts(raw, target, f"{field}.target_column")
    slices = {
        name: texts(_flat(columns, name, f"{field}.slice_columns"), name, f"{field}.slice_columns")
        for name in dataset.slice_columns
    }
    for name, values in {**slices, "features": x}.items():
        if len(values) != len(y):
            raise InvalidInput(
                field=field,
                problem=f"has {len(values)} rows of {name!r} and {len(y)} of {target!r}",
                fix="give every row a value in each",
            )
    return Table(dataset_name(dataset), x, y, slices, names)


def check_dataset(
    dataset: types_pb2.Dataset,
    artifacts: ArtifactStore | None = None,
    *,
    feature_names: tuple[str, ...] = (),
    field: str = "dataset",
) -> None:
    """That the source exists, is of its format, has the columns; looks at no values. Blocks."""
    columns = _open(dataset, artifacts, types_pb2.TASK_CLASSIFICATION, field)
    features, _ = _choose(dataset, columns, feature_names, field)
    for name in features:
        columns.require(name, f"{field}.feature_columns")
    for name in dataset.slice_columns:
        columns.require(name, f"{field}.slice_columns")


def texts(values: NDArray[np.generic], name: str, field: str) -> NDArray[np.str_]:
    """Labels as text: integers and whole floats without a point, booleans as true and false.

    Raises InvalidInput for missing values (None, NaN or empty).
    """
    if values.dtype.kind == "b":
        return np.where(values, "true", "false").astype(str)
    if values.dtype.kind == "f":
        _refuse(~np.isfinite(values.astype(np.float64)), "has no value", name, field)
        numbers = values.astype(np.float64)
        if (numbers == np.floor(numbers)).all() and (np.abs(numbers) < 2**53).all():
            return numbers.astype(np.int64).astype(str)
        return values.astype(str)
    if values.dtype.kind == "S":
        return np.char.decode(values.astype(np.bytes_), "utf-8", "replace")
    if values.dtype.kind == "O":
        _refuse(np.array([v is None for v in values]), "has no value", name, field)
    found = values.astype(str)
    _refuse(found == "", "has no value", name, field)
    return found


def _open(
    dataset: types_pb2.Dataset,
    artifacts: ArtifactStore | None,
    task: types_pb2.Task.ValueType,
    field: str,
) -> Columns:
    kind = sources.format_of(dataset, field)
    source, where = sources.open_source(dataset, artifacts, field)
    if kind == types_pb2.DATASET_FORMAT_NPZ:
        return NpzColumns.open(source, where, sources.MAX_BYTES)
    # A label is taken as it is written: "007" is not 7.
    text = [dataset.target_column] if task == types_pb2.TASK_CLASSIFICATION else []
    return TableColumns.open(source, where, csv=kind == types_pb2.DATASET_FORMAT_CSV, text=text)


def _choose(
    dataset: types_pb2.Dataset,
    columns: Columns,
    feature_names: tuple[str, ...],
    field: str,
) -> tuple[list[str], str]:
    """The names of the feature columns and of the target."""
    npz = isinstance(columns, NpzColumns)
    target = dataset.target_column or ("y" if npz else "")
    if not target:
        raise InvalidInput(
            field=f"{field}.target_column",
            problem="is not given",
            fix=f"name one of {', '.join(columns.names[:20])}",
        )
    columns.require(target, f"{field}.target_column")
    if dataset.feature_columns:
        chosen = list(dataset.feature_columns)
        if target in chosen:
            raise InvalidInput(
                field=f"{field}.feature_columns",
                problem=f"has {target!r}, which is the target",
                fix="leave it out: a model must not see the answer",
            )
        return chosen, target
    if npz and "x" in columns.names:
        return ["x"], target
    if feature_names:
        return list(feature_names), target
    if npz:
        return ["x"], target
    # Text by which rows are sliced can be no feature, so naming it is enough to leave it out.
    left_out = {target, *(n for n in dataset.slice_columns if columns.is_text(n))}
    return [name for name in columns.names if name not in left_out], target


def _features(
    columns: Columns, names: list[str], field: str, allow_missing: bool
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    where = f"{field}.feature_columns"
    if not names:
        raise InvalidInput(
            field=where, problem="leaves no feature", fix="give at least one besides the target"
        )
    first = columns.read(names[0], where)
    if len(names) == 1 and first.ndim > 1:
        x = _numbers(first, names[0], where, np.float32, allow_missing)
        return (x[:, np.newaxis] if x.ndim == 3 else x), ()
    parts = [
        _numbers(_flat(columns, name, where), name, where, np.float32, allow_missing)
        for name in names
    ]
    sizes = {len(part) for part in parts}
    if len(sizes) > 1:
        raise InvalidInput(
            field=where,
            problem=f"have different numbers of rows: {sorted(sizes)}",
            fix="give every row a value in each",
        )
    return np.stack(parts, axis=1), tuple(names)


def _flat(columns: Columns, name: str, field: str) -> NDArray[np.generic]:
    values = columns.read(name, field)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise InvalidInput(
            field=field,
            problem=f"names {name!r}, which has shape {list(values.shape)}",
            fix="give one value a row",
        )
    return values


def _numbers(
    values: NDArray[np.generic],
    name: str,
    field: str,
    dtype: type[F],
    allow_missing: bool = False,
) -> NDArray[F]:
    if values.dtype.kind == "O" and all(value is None for value in values):
        values = np.full(len(values), np.nan)
    if values.dtype.kind not in "biuf":
        raise InvalidInput(
            field=field,
            problem=f"names {name!r}, which holds no numbers",
            fix="leave it out, or encode it as numbers",
        )
    with np.errstate(over="ignore"):
        numbers = values.astype(dtype)
    if allow_missing:
        _refuse(np.isinf(numbers), "is infinite", name, field)
    else:
        _refuse(~np.isfinite(numbers), "is missing or not finite", name, field)
    return numbers


def _refuse(wrong: NDArray[np.bool_], problem: str, name: str, field: str) -> None:
    if wrong.any():
        rows = wrong.reshape(len(wrong), -1).max(axis=1)
        raise InvalidInput(
            field=field,
            problem=(
                f"{name!r} {problem} in {int(rows.sum())} of {len(rows)} rows, "
                f"first in row {int(np.argmax(rows))}"
            ),
            fix="drop or fill those rows",
        )
