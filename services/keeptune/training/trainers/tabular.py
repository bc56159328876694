"""Trainer `tabular`: a multilayer perceptron for rows of numbers, classification or regression.

Light to import: torch comes with the first fit or export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from keeptune.training.model import Signature, Task, Tensor
from keeptune.training.trainers.parameters import ChoiceParameter, FloatParameter, IntParameter
from keeptune.training.trainers.protocol import (
    Epoch,
    FitContext,
    FittedModel,
    TrainerMetric,
    TrainingData,
)

if TYPE_CHECKING:
    from torch import nn


class TabularTrainer:
    name = "tabular"
    version = "1"
    description = (
        "Multilayer perceptron over standardised numbers; AdamW with a one-cycle learning rate."
    )
    data_contract = (
        "NPZ with `x`: numbers [n, features], or one array a column; or CSV or Parquet with "
        "numeric columns. A missing value (NaN, empty) is replaced by its column's mean. "
        "`target_column` holds the label (at least two classes) or the value (finite). "
        "The standardisation is computed from the training rows and is part of the served model."
    )
    tasks = (Task.CLASSIFICATION, Task.REGRESSION)
    recipes: frozenset[str] = frozenset()
    default_epochs = 30
    parameters = (
        IntParameter("depth", 1, 4, default=2, highest=32),
        IntParameter("width", 16, 256, default=64, log=True, highest=8192),
        FloatParameter("dropout", 0.0, 0.5, default=0.1, lowest=0.0, highest=0.95),
        FloatParameter("learning_rate", 1e-3, 3e-2, default=5e-3, log=True, lowest=0.0),
        FloatParameter("weight_decay", 1e-5, 1e-1, default=1e-3, log=True, lowest=0.0),
        ChoiceParameter("batch_size", (32, 64, 128, 256), default=64),
    )

    def metrics(self, task: Task) -> Sequence[TrainerMetric]:
        names = ("accuracy", "log_loss") if task is Task.CLASSIFICATION else ("rmse", "mae")
        return (
            *(TrainerMetric(name, maximize=name == "accuracy") for name in names),
            TrainerMetric("train_loss", maximize=False),
        )

    def check(self, data: TrainingData) -> str:
        x = data.train.x
        if x.ndim != 2:
            return f"has rows of shape {list(x.shape[1:])}, not of numbers [features]"
        empty = np.flatnonzero(np.isnan(x).all(axis=0))
        if empty.size:
            names = data.feature_names or [str(index) for index in range(x.shape[1])]
            return f"has no value at all in column {names[empty[0]]!r}"
        return ""

    def signature(self, data: TrainingData) -> Signature:
        classes = len(data.classes)
        return Signature(
            task=data.task,
            inputs=(Tensor("features", (data.train.x.shape[1],)),),
            outputs=(
                Tensor("probabilities", (classes,))
                if data.task is Task.CLASSIFICATION
                else Tensor("value", (1,)),
            ),
            classes=data.classes,
        )

    def fit(self, context: FitContext) -> Iterator[Epoch]:
        from keeptune.training.trainers import fitting, networks

        data = context.data
        body = networks.perceptron(
            inputs=data.train.x.shape[1],
            outputs=len(data.classes) if data.task is Task.CLASSIFICATION else 1,
            depth=int(context.parameters["depth"]),
            width=int(context.parameters["width"]),
            dropout=float(context.parameters["dropout"]),
            seed=context.seed,
        )
        normalise = networks.Normalise.over_columns(data.train.x)
        network: networks.Classifier | networks.Regressor
        if data.task is Task.CLASSIFICATION:
            network = networks.Classifier(normalise, body)
        else:
            network = networks.Regressor(normalise, body, networks.Scale.of(data.train.y))
        return fitting.fit(network, context)

    def export(self, fitted: FittedModel, rows: NDArray[np.float32], path: Path) -> float:
        from keeptune.training.trainers import networks, onnx_file

        signature = fitted.signature
        (inputs,) = signature.inputs[0].shape
        body = networks.perceptron(
            inputs=inputs,
            outputs=signature.outputs[0].shape[0],
            depth=int(fitted.parameters["depth"]),
            width=int(fitted.parameters["width"]),
            dropout=0.0,
            seed=0,
        )
        normalise = networks.Normalise.blank((inputs,))
        network: nn.Module
        if signature.task is Task.CLASSIFICATION:
            network = networks.Classifier(normalise, body)
        else:
            network = networks.Regressor(normalise, body, networks.Scale.blank())
        networks.load_weights(network, fitted.weights)
        return onnx_file.write(network, signature, rows, path)
