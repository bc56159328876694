"""The networks of our own trainers. Every one holds its normalisation, as part of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x - mean) / std with statistics of the training rows; NaN becomes the mean."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: NDArray[Any], std: NDArray[Any]) -> None:
        super().__init__()
        # A constant input stays at zero instead of becoming infinite.
        safe = np.where((std > 0) & np.isfinite(std), std, 1.0)
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("std", torch.from_numpy(safe.astype(np.float32)))

    @classmethod
    def over_images(cls, batches: Iterable[NDArray[np.float32]]) -> Self:
        """One mean and deviation a channel, over images [n, channels, h, w] that come in parts."""
        count = 0
        total: NDArray[np.float64] | float = 0.0
        squares: NDArray[np.float64] | float = 0.0
        for images in batches:
            wide = images.astype(np.float64)
            count += wide.size // wide.shape[1]
            total = total + wide.sum(axis=(0, 2, 3))
            squares = squares + np.square(wide).sum(axis=(0, 2, 3))
        mean = np.asarray(total) / count
        variance = np.maximum(np.asarray(squares) / count - np.square(mean), 0.0)
        return cls(mean[:, None, None], np.sqrt(variance)[:, None, None])

    @classmethod
    def over_columns(cls, rows: NDArray[np.float32]) -> Self:
        """One mean and deviation a column of [n, features], NaN left out."""
        wide = rows.astype(np.float64)
        return cls(np.nanmean(wide, axis=0), np.nanstd(wide, axis=0))

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> Self:
        """To be filled from a checkpoint."""
        return cls(np.zeros(shape), np.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.where(torch.isnan(x), self.mean, x) - self.mean) / self.std


class Scale(nn.Module):
    """Standard units to the target's own."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std or 1.0, dtype=torch.float32))

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        return cls(float(np.mean(values)), float(np.std(values)))

    @classmethod
    def blank(cls) -> Self:
        return cls(0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean

    def standardise(self, y: Tensor) -> Tensor:
        return (y - self.mean) / self.std


class Classifier(nn.Module):
    """Raw input [n, ...] to class probabilities [n, classes]."""

    def __init__(self, normalise: Normalise, body: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.body(self.normalise(x)), dim=1)


class Regressor(nn.Module):
    """Raw input [n, ...] to values [n, 1]."""

    def __init__(self, normalise: Normalise, body: nn.Module, scale: Scale) -> None:
        super().__init__()
        self.normalise = normalise
        self.body = body
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.scale(self.body(self.normalise(x)))
        return value


def convolutional(
    *,
    channels: int,
    height: int,
    width_of_image: int,
    outputs: int,
    depth: int,
    width: int,
    dropout: float,
    seed: int,
) -> nn.Module:
    """`depth` blocks of convolution, normalisation and ReLU; images halve while above 4 pixels.

    The first block has `width` filters, the others twice as many.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    size = (height, width_of_image)
    for block in range(depth):
        filters = width * min(2, block + 1)
        layers += [
            nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]
        channels = filters
        if min(size) > 4:
            layers.append(nn.MaxPool2d(2))
            size = (size[0] // 2, size[1] // 2)
    layers += [
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels * size[0] * size[1], outputs),
    ]
    return nn.Sequential(*layers)


def perceptron(
    *, inputs: int, outputs: int, depth: int, width: int, dropout: float, seed: int
) -> nn.Module:
    """`depth` hidden layers of `width` units, each with layer normalisation and ReLU."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *[width] * depth]):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def weights_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """A copy of all weights and buffers, on the host."""
    return {name: value.detach().cpu().numpy().copy() for name, value in
            network.state_dict().items()}  # fmt: skip


def load_weights(network: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    network.eval()
