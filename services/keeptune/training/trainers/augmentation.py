"""Random distortions of normalised images: what a moved, turned or badly lit camera does.

The `augmentation` recipe. `strength` 1 means: shifts up to a fifth of the picture, turns up to
15 degrees, scales by up to 20 %, contrast by a factor of up to 2 either way, brightness by up to
half a standard deviation, noise of 0.3 standard deviations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_SHIFT = 0.2
_DEGREES = 15.0
_SCALE = 0.2
_CONTRAST = math.log(2.0)
_BRIGHTNESS = 0.5
_NOISE = 0.3


class Augmentation:
    """Distorts a batch [n, channels, h, w] of zero mean and unit deviation, each image its own way.

    `strength` is 0 (nothing) to 1.
    """

    def __init__(self, strength: float, generator: torch.Generator) -> None:
        self._strength = strength
        self._generator = generator

    def __call__(self, images: Tensor) -> Tensor:
        if not self._strength:
            return images
        return self._add_noise(self._relight(self._move(images)))

    def _move(self, images: Tensor) -> Tensor:
        count = len(images)
        angle = self._uniform(count, math.radians(_DEGREES))
        zoom = 1.0 + self._uniform(count, _SCALE)
        # Grid coordinates run from -1 to 1, so a shift of the whole picture is 2.
        shift = self._uniform(count * 2, 2 * _SHIFT).reshape(count, 2)
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack(
            [torch.stack([cosine, -sine, shift[:, 0]], 1),
             torch.stack([sine, cosine, shift[:, 1]], 1)], 1
        )  # fmt: skip
        grid = functional.affine_grid(
            rows.to(images.device), list(images.shape), align_corners=False
        )
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _relight(self, images: Tensor) -> Tensor:
        each = (len(images), 1, 1, 1)
        contrast = torch.exp(self._uniform(len(images), _CONTRAST)).reshape(each)
        brightness = self._uniform(len(images), _BRIGHTNESS).reshape(each)
        return images * contrast.to(images.device) + brightness.to(images.device)

    def _add_noise(self, images: Tensor) -> Tensor:
        amount = torch.rand((len(images), 1, 1, 1), generator=self._generator)
        noise = torch.randn(images.shape, generator=self._generator)
        return images + (noise * amount * (_NOISE * self._strength)).to(images.device)

    def _uniform(self, count: int, limit: float) -> Tensor:
        """Between -limit and +limit times the strength."""
        reach = limit * self._strength
        return (torch.rand(count, generator=self._generator) * 2 - 1) * reach
