"""Reads the datasets of a training and makes them ready: together, labelled, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.datasets import Table, read_dataset
from keeptune.runtime.errors import InvalidInput
from keeptune.training.datasets.split import shuffled, stratified
from keeptune.training.model import Task
from keeptune.training.trainers.protocol import Rows, TrainingData
from keeptune.v1 import types_pb2
from keeptune.v1.types_pb2 import Dataset

_TASKS = {
    Task.CLASSIFICATION: types_pb2.TASK_CLASSIFICATION,
    Task.REGRESSION: types_pb2.TASK_REGRESSION,
}


@dataclass(frozen=True)
class DataRequest:
    """What decides the prepared data, besides the content of the datasets."""

    task: Task
    datasets: tuple[Dataset, ...]
    validation_datasets: tuple[Dataset, ...]
    validation_fraction: float
    seed: int


def prepare(request: DataRequest, artifacts: ArtifactStore) -> TrainingData:
    """Blocks. Raises InvalidInput that names the dataset and the column."""
    parts = _read(request, request.datasets, artifacts, "training.datasets")
    held_out = _read(
        request, request.validation_datasets, artifacts, "training.validation_datasets"
    )
    _check_shapes([*parts, *held_out])
    names = parts[0].table.feature_names
    x = _together([part.table.x for part in parts])
    raw = np.concatenate([part.table.y for part in parts])
    targets: NDArray[np.generic]
    if request.task is Task.REGRESSION:
        classes: tuple[str, ...] = ()
        targets = raw.astype(np.float32)
    else:
        classes = _classes(raw)
        targets = _indices(raw, classes)
    if held_out:
        validation = Rows(
            _together([part.table.x for part in held_out]),
            _validation_targets(held_out, request.task, classes),
        )
        return TrainingData(request.task, Rows(x, targets), validation, classes, names)
    if len(targets) < 2:
        raise InvalidInput(
            field="training.datasets",
            problem="have a single row, from which nothing can be held out for validation",
            fix="give more rows, or validation_datasets",
        )
    fraction, seed = request.validation_fraction, request.seed
    if request.task is Task.REGRESSION:
        training_rows, validation_rows = shuffled(len(targets), fraction, seed)
    else:
        training_rows, validation_rows = stratified(targets, fraction, seed)
        _check_validation(validation_rows)
    return TrainingData(
        request.task,
        Rows(x[training_rows], targets[training_rows]),
        Rows(x[validation_rows], targets[validation_rows]),
        classes,
        names,
    )


@dataclass(frozen=True)
class _Part:
    """One dataset's rows and its path in the request."""

    table: Table
    field: str


def _read(
    request: DataRequest, datasets: Sequence[Dataset], artifacts: ArtifactStore, field: str
) -> list[_Part]:
    return [
        _Part(
            read_dataset(
                dataset,
                artifacts,
                task=_TASKS[request.task],
                field=f"{field}[{index}]",
                allow_missing=True,
            ),
            f"{field}[{index}]",
        )
        for index, dataset in enumerate(datasets)
    ]


def _check_shapes(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.table.x.shape[1:] != first.table.x.shape[1:]:
            raise InvalidInput(
                field=part.field,
                problem=(
                    f"has rows of shape {list(part.table.x.shape[1:])}, "
                    f"{first.field} of {list(first.table.x.shape[1:])}"
                ),
                fix="give datasets with the same features",
            )
        both = part.table.feature_names and first.table.feature_names
        if both and part.table.feature_names != first.table.feature_names:
            raise InvalidInput(
                field=f"{part.field}.feature_columns",
                problem=(
                    f"are {', '.join(part.table.feature_names[:20])}; those of {first.field} "
                    f"are {', '.join(first.table.feature_names[:20])}"
                ),
                fix="name the same columns in the same order for every dataset",
            )


def _classes(labels: NDArray[np.generic]) -> tuple[str, ...]:
    """In the order of their numbers if all are whole numbers, else of their text."""
    found = [str(label) for label in np.unique(labels)]
    if len(found) < 2:
        raise InvalidInput(
            field="training.datasets",
            problem=f"have one class only, {found[0]!r}",
            fix="give rows of at least two classes, or check target_column",
        )
    if len(found) > len(labels) // 2 and len(found) > 100:
        raise InvalidInput(
            field="training.datasets",
            problem=f"have {len(found)} different labels in {len(labels)} rows",
            fix="set task to TASK_REGRESSION, or check target_column",
        )
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(found)


def _indices(labels: NDArray[np.generic], classes: Sequence[str]) -> NDArray[np.int64]:
    place = {label: index for index, label in enumerate(classes)}
    return np.array([place[str(label)] for label in labels], dtype=np.int64)


def _validation_targets(
    parts: Sequence[_Part], task: Task, classes: tuple[str, ...]
) -> NDArray[np.generic]:
    if task is Task.REGRESSION:
        return np.concatenate([part.table.y for part in parts]).astype(np.float32)
    for part in parts:
        unknown = sorted({str(label) for label in part.table.y} - set(classes))
        if unknown:
            raise InvalidInput(
                field=part.field,
                problem=f"has the label {unknown[0]!r}, which no training row has",
                fix=f"use labels of {', '.join(classes[:20])}",
            )
    return _indices(np.concatenate([part.table.y for part in parts]), classes)


def _check_validation(rows: NDArray[np.int64]) -> None:
    if not rows.size:
        raise InvalidInput(
            field="training.datasets",
            problem="have a single row of each class: nothing can be held out for validation",
            fix="give more rows, or validation_datasets",
        )


def _together(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
