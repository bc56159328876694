"""A model that is judged, and its answers on the rows of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keeptune.evaluation import metrics
from keeptune.evaluation.onnx_model import NUMPY_TYPES, OnnxModel, Session, read_model
from keeptune.evaluation.scoring import ClassScores, Scores, ValueScores
from keeptune.runtime.datasets import Table
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2

Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Answers:
    """A model's outputs on a table's rows.

    `first` is the first output as [rows, columns]; `problem` says what is wrong with its numbers
    and is empty if nothing is.
    """

    table: Table
    inputs: Tensors
    outputs: Tensors
    first: NDArray[np.float64]
    problem: str


@dataclass(frozen=True)
class Contestant:
    """`field` is the model's place in the request: evaluation.candidate or evaluation.champion."""

    model: OnnxModel
    session: Session
    field: str

    @classmethod
    def load(
        cls,
        path: Path,
        field: str,
        *,
        signature: types_pb2.ModelSignature | None = None,
        default: types_pb2.ModelSignature | None = None,
    ) -> Contestant:
        """For the signatures see `read_model`. Raises InvalidInput for an unsound file."""
        model = read_model(path.read_bytes(), field=field, signature=signature, default=default)
        return cls(model, Session(model, field), field)

    @property
    def label(self) -> str:
        """Candidate or champion."""
        return self.field.rpartition(".")[2]

    def answer(self, table: Table, field: str) -> Answers:
        """Runs all rows; `field` is the dataset's, for errors about the rows' shape."""
        inputs = self._feed(table, field)
        outputs = self.session.run(inputs)
        values = outputs[self.model.signature.outputs[0].name]
        first = values.astype(np.float64).reshape(len(values), -1)
        wrong = int((~np.isfinite(first)).any(axis=1).sum())
        problem = (
            f"the {self.label}'s output is NaN or infinite in {wrong} of {table.rows} rows "
            f"of {table.name}"
        )
        return Answers(table, inputs, outputs, first, problem if wrong else "")

    def score(self, answers: Answers, field: str) -> Scores:
        """Sound answers beside the truth.

        Raises InvalidInput when the first output has not the form that the task asks for, or
        when the dataset's labels are not the model's at all.
        """
        if self.model.signature.task == types_pb2.TASK_REGRESSION:
            if answers.first.shape[1] != 1:
                raise InvalidInput(
                    field=self.field,
                    problem=f"answers a row with {answers.first.shape[1]} values",
                    fix="give a model whose first output is one value a row",
                )
            return ValueScores(answers.table.y.astype(np.float64), answers.first[:, 0])
        classes = list(self.model.signature.classes)
        self._check_probabilities(answers.first, len(classes))
        truth = metrics.positions(answers.table.y, classes)
        if (truth == metrics.UNKNOWN).all():
            labels = sorted({str(label) for label in answers.table.y.tolist()})
            raise InvalidInput(
                field=f"{field}.target_column",
                problem=(
                    f"has labels ({', '.join(labels[:5])}), none of which is a class of the "
                    f"{self.label} ({', '.join(classes[:5])})"
                ),
                fix="label the data as the model's signature does",
            )
        return ClassScores(truth, answers.first)

    def _check_probabilities(self, first: NDArray[np.float64], classes: int) -> None:
        if first.shape[1] != classes:
            raise InvalidInput(
                field=self.field,
                problem=f"answers a row with {first.shape[1]} numbers for {classes} classes",
                fix="list one label a column in the signature",
            )
        sums = first.sum(axis=1)
        if first.min() < -1e-4 or np.abs(sums - 1).max() > 1e-2:
            raise InvalidInput(
                field=self.field,
                problem=(
                    f"gives no probabilities: the least number is {first.min():.4g}, rows sum "
                    f"to between {sums.min():.4g} and {sums.max():.4g}"
                ),
                fix="put the softmax inside the exported graph",
            )

    def _feed(self, table: Table, field: str) -> Tensors:
        specs = self.model.signature.inputs
        if len(specs) == 1:
            return {specs[0].name: self._shaped(table.x, specs[0], field)}
        place = {name: index for index, name in enumerate(table.feature_names)}
        fed: Tensors = {}
        for spec in specs:
            if spec.name not in place:
                raise InvalidInput(
                    field=field,
                    problem=f"has no column for the {self.label}'s input {spec.name!r}",
                    fix="name the columns as the model's inputs",
                )
            fed[spec.name] = self._shaped(table.x[:, [place[spec.name]]], spec, field)
        return fed

    def _shaped(
        self, rows: NDArray[np.float32], spec: types_pb2.TensorSpec, field: str
    ) -> NDArray[np.generic]:
        if spec.data_type not in NUMPY_TYPES:
            raise InvalidInput(
                field=field,
                problem=f"has numbers, but the {self.label}'s input {spec.name!r} takes text",
                fix="give a model that takes numbers",
            )
        shape = fit_shape(rows.shape[1:], tuple(spec.shape))
        if shape is None:
            raise InvalidInput(
                field=field,
                problem=(
                    f"has rows of shape {list(rows.shape[1:])}, but the {self.label} takes "
                    f"{list(spec.shape)}"
                ),
                fix="give the columns, or the image size, that the model was trained on",
            )
        shaped = rows.reshape(len(rows), *shape)
        return np.ascontiguousarray(shaped.astype(NUMPY_TYPES[spec.data_type]))


def fit_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """`shape` in the form of `wanted` (-1 = any), or None when it does not fit.

    Sizes of one do not count: a single channel is often left out on one side.
    """
    sizes = [size for size in shape if size != 1]
    fitted: list[int] = []
    for want in wanted:
        if want == 1 or (want == -1 and not sizes):
            fitted.append(1)
        elif sizes and want in (-1, sizes[0]):
            fitted.append(sizes.pop(0))
        else:
            return None
    return None if sizes else tuple(fitted)
