"""Handwritten digits as a served model would see them, and the camera that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from keeptune.runtime import channels as runtime_channels
from keeptune.runtime.channels import Channels
from keeptune.v1 import evaluation_pb2, types_pb2

SIGNATURE = types_pb2.ModelSignature(
    task=types_pb2.TASK_CLASSIFICATION,
    inputs=[types_pb2.TensorSpec(name="image", data_type=1, shape=[1, 8, 8])],
    outputs=[types_pb2.TensorSpec(name="probabilities", data_type=1, shape=[10])],
    classes=[str(digit) for digit in range(10)],
)


def profile_of(found: Channels) -> evaluation_pb2.ReferenceProfile:
    profile = evaluation_pb2.ReferenceProfile(rows=len(next(iter(found.values()))))
    for name, values in found.items():
        channel = profile.channels.add(channel=name)
        if runtime_channels.is_categorical(values):
            names = runtime_channels.categories(values)
            channel.categories.extend(names)
            channel.counts.extend(runtime_channels.category_histogram(values, names).tolist())
        else:
            edges = runtime_channels.bin_edges(values)
            channel.edges.extend(edges.tolist())
            channel.counts.extend(runtime_channels.histogram(values, edges).tolist())
    return profile


def rows(found: Channels, index: NDArray[np.int64]) -> Channels:
    return {name: values[index] for name, values in found.items()}


@dataclass
class Digits:
    """A model, its reference profile, and the pool that its traffic is drawn from."""

    profile: evaluation_pb2.ReferenceProfile
    pool: Channels
    drifted_pool: Channels
    labels: NDArray[np.str_]
    size: int

    def accuracy(self, found: Channels) -> float:
        return float((found["output.class"] == self.labels).mean())


@pytest.fixture(scope="session")
def digits() -> Callable[..., Digits]:
    scans = load_digits()
    images, labels = (scans.images / 16).astype(np.float32), scans.target.astype(str)

    def make(seed: int, reference: int = 300, pool: int = 600) -> Digits:
        order = np.random.default_rng(seed).permutation(len(images))
        x, y = images[order], labels[order]
        model = LogisticRegression(max_iter=60, tol=1e-2).fit(x[:700].reshape(700, -1), y[:700])

        def channels(batch: NDArray[np.float32]) -> Channels:
            probabilities = model.predict_proba(batch.reshape(len(batch), -1))
            return runtime_channels.channels(
                SIGNATURE, {"image": batch[:, None]}, {"probabilities": probabilities}
            )

        served = x[700 + reference : 700 + reference + pool]
        return Digits(
            profile=profile_of(channels(x[700 : 700 + reference])),
            pool=channels(served),
            drifted_pool=channels(camera(served)),
            labels=y[700 + reference : 700 + reference + pool],
            size=pool,
        )

    return make


def camera(
    images: NDArray[np.float32], contrast: float = 0.7, blur: float = 0.6, shift: float = 0.7
) -> NDArray[np.float32]:
    blurred = ndimage.gaussian_filter(images, (0, blur, blur))
    moved = ndimage.shift(blurred, (0, shift, 0), order=1)
    return (0.5 + (moved - 0.5) * contrast).clip(0, 1).astype(np.float32)
