"""scikit-learn's bundled data, cut once into a half to train on and a half to measure on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Of the two photographs: squares of so many pixels a side.
_PATCH = 16


@dataclass(frozen=True)
class Split:
    """Features with mean 0 and variance 1 on the training rows; so the target of a regression."""

    x_train: Array
    y_train: Array
    x_valid: Array
    y_valid: Array

    @property
    def classes(self) -> Array:
        return np.unique(self.y_train)


@functools.cache
def load(name: str) -> Split:
    """digits, breast_cancer, wine, diabetes, or patches (of which photograph is it a part?)."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    if name == "patches":
        x, y = _patches()
    else:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    regression = name == "diabetes"
    x_train, x_valid, y_train, y_valid = train_test_split(
        x, y, test_size=0.5, random_state=0, stratify=None if regression else y
    )
    scaler = StandardScaler().fit(x_train)
    if regression:
        mean, deviation = y_train.mean(), y_train.std()
        y_train, y_valid = (y_train - mean) / deviation, (y_valid - mean) / deviation
    return Split(scaler.transform(x_train), y_train, scaler.transform(x_valid), y_valid)


def _patches() -> tuple[Array, Array]:
    """Grey, without their own mean brightness, every fourth pixel: the colours tell too much."""
    from sklearn.datasets import load_sample_images

    rows, labels = [], []
    for label, image in enumerate(load_sample_images().images):
        grey = image.mean(axis=2)
        height, width = grey.shape
        for top in range(0, height - _PATCH, _PATCH):
            for left in range(0, width - _PATCH, _PATCH):
                patch = grey[top : top + _PATCH : 2, left : left + _PATCH : 2]
                rows.append((patch - patch.mean()).ravel())
                labels.append(label)
    return np.array(rows), np.array(labels)
