"""Trainer `image`: a small convolutional network for small pictures of any scale.

Light to import: torch comes with the first fit or export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

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

_SMALLEST = 4


class ImageTrainer:
    name = "image"
    version = "1"
    description = (
        "Convolutional network (3x3 convolutions, batch normalisation) for pictures of about "
        "4x4 to 64x64 pixels; AdamW with a one-cycle learning rate."
    )
    data_contract = (
        "NPZ with `x`: float32 or uint8 images [n, channels, height, width] or [n, height, width] "
        "in any scale, finite; `y`: labels, strings or whole numbers, at least two classes. "
        "The normalisation is computed from the training rows and is part of the served model."
    )
    tasks = (Task.CLASSIFICATION,)
    recipes = frozenset({"augmentation"})
    default_epochs = 10
    parameters = (
        IntParameter("depth", 1, 3, default=2, highest=8),
        IntParameter("width", 8, 48, default=24, log=True, highest=1024),
        FloatParameter("dropout", 0.0, 0.5, default=0.2, lowest=0.0, highest=0.95),
        FloatParameter("learning_rate", 2e-3, 4e-2, default=1e-2, log=True, lowest=0.0),
        FloatParameter("weight_decay", 1e-5, 1e-1, default=1e-3, log=True, lowest=0.0),
        ChoiceParameter("batch_size", (16, 32, 64), default=32),
        # How strongly the recipe's augmentation distorts; idle without it.
        FloatParameter("augmentation", 0.0, 1.0, default=0.5, lowest=0.0, highest=1.0),
    )

    def metrics(self, task: Task) -> Sequence[TrainerMetric]:
        return (
            TrainerMetric("accuracy", maximize=True),
            TrainerMetric("log_loss", maximize=False),
            TrainerMetric("train_loss", maximize=False),
        )

    def check(self, data: TrainingData) -> str:
        x = data.train.x
        if x.ndim not in (3, 4):
            return f"has rows of shape {list(x.shape[1:])}, not images [channels, height, width]"
        if min(x.shape[-2:]) < _SMALLEST:
            return f"has images of {x.shape[-2]}x{x.shape[-1]} pixels, smaller than 4x4"
        if any(np.isnan(rows.x).any() for rows in (data.train, data.validation)):
            return "has pixels that are missing (NaN)"
        return ""

    def signature(self, data: TrainingData) -> Signature:
        return Signature(
            task=data.task,
            inputs=(Tensor("image", _image_shape(data.train.x.shape[1:])),),
            outputs=(Tensor("probabilities", (len(data.classes),)),),
            classes=data.classes,
        )

    def fit(self, context: FitContext) -> Iterator[Epoch]:
        from keeptune.training.trainers import fitting, networks

        channels, height, width = _image_shape(context.data.train.x.shape[1:])
        body = networks.convolutional(
            channels=channels,
            height=height,
            width_of_image=width,
            outputs=len(context.data.classes),
            depth=int(context.parameters["depth"]),
            width=int(context.parameters["width"]),
            dropout=float(context.parameters["dropout"]),
            seed=context.seed,
        )
        normalise = networks.Normalise.over_images(_batches(context.data.train.x))
        return fitting.fit(networks.Classifier(normalise, body), context, as_input=_as_images)

    def export(self, fitted: FittedModel, rows: NDArray[np.float32], path: Path) -> float:
        from keeptune.training.trainers import networks, onnx_file

        channels, height, width = fitted.signature.inputs[0].shape
        network = networks.Classifier(
            networks.Normalise.blank((channels, 1, 1)),
            networks.convolutional(
                channels=channels,
                height=height,
                width_of_image=width,
                outputs=len(fitted.signature.classes),
                depth=int(fitted.parameters["depth"]),
                width=int(fitted.parameters["width"]),
                dropout=0.0,
                seed=0,
            ),
        )
        networks.load_weights(network, fitted.weights)
        return onnx_file.write(network, fitted.signature, _as_images(rows), path)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """[h, w] is one channel."""
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return channels, height, width


def _as_images(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x[:, None] if x.ndim == 3 else x


def _batches(x: NDArray[np.float32], size: int = 4096) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(x), size):
        yield _as_images(x[start : start + size])
