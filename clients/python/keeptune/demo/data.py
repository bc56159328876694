"""Scanned handwritten digits and the camera that looks at them.

The digits are the 1,797 scans of E. Alpaydin and C. Kaynak that scikit-learn ships: 8 x 8 pixels,
0 to 16. They are split once per seed into four parts that share no scan: what version 1 learns
from, what every version is judged on, what is served until the loop has closed (and so may be
captured and learned from), and what is served afterwards, which no version has ever seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Labels = NDArray[np.str_]

_TRAINING, _EVALUATION, _SERVED_FIRST = 600, 200, 650
# Standard deviation of the sensor's noise, in grey levels of 16.
_NOISE = 0.25


@dataclass(frozen=True)
class Scans:
    """Images [n, 1, 8, 8] and their labels "0" to "9"."""

    images: Images
    labels: Labels

    def save(self, path: Path) -> Path:
        np.savez(path, x=self.images, y=self.labels)
        return path


@dataclass(frozen=True)
class Digits:
    training: Scans
    evaluation: Scans
    served_first: Scans
    served_later: Scans


def load(seed: int) -> Digits:
    """The four parts, stratified by digit."""
    bundle = load_digits()
    images = bundle.images.astype(np.float32)[:, None]
    labels = bundle.target.astype(str)
    rng = np.random.default_rng(seed)
    camera = Camera()
    parts = []
    rest = np.arange(len(labels))
    for size in (_TRAINING, _EVALUATION, _SERVED_FIRST):
        part, rest = train_test_split(
            rest,
            train_size=size,
            stratify=labels[rest],
            random_state=int(rng.integers(2**31)),
        )
        parts.append(part)
    parts.append(rest)
    first, *others = (Scans(camera.look(images[part], rng), labels[part]) for part in parts[:2])
    return Digits(first, others[0], *(Scans(images[part], labels[part]) for part in parts[2:]))


@dataclass(frozen=True)
class Camera:
    """What the sensor makes of a scan. The defaults are the camera that the training data saw."""

    contrast: float = 1.0
    brightness: float = 0.0
    blur: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def look(self, images: Images, rng: np.random.Generator) -> Images:
        """Images [n, 1, 8, 8], grey levels 0 to 16, as the camera gives them."""
        seen: NDArray[np.floating[Any]] = images
        if self.blur or any(self.shift):
            seen = ndimage.gaussian_filter(seen, (0, 0, self.blur, self.blur))
            seen = ndimage.shift(seen, (0, 0, *self.shift), order=1, mode="constant")
        seen = self.contrast * seen + self.brightness
        seen = seen + rng.normal(0.0, _NOISE, seen.shape)
        return np.clip(seen, 0.0, 16.0).astype(np.float32)


# Somebody knocked against it: out of focus, out of place, and a lamp is gone.
KNOCKED = Camera(contrast=0.3, brightness=7.5, blur=0.35, shift=(1.0, 0.0))
