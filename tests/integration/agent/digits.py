"""Digit classifiers for the agent's tests: linear, honest, quickly made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from keeptune.runtime import channels as ch
from keeptune.v1 import evaluation_pb2, types_pb2
from tests.fixtures.judged_models import classifier

CLASSES = [str(digit) for digit in range(10)]
SIGNATURE = types_pb2.ModelSignature(
    task=types_pb2.TASK_CLASSIFICATION,
    inputs=[types_pb2.TensorSpec(name="image", data_type=1, shape=[1, 8, 8])],
    outputs=[types_pb2.TensorSpec(name="probabilities", data_type=1, shape=[10])],
    classes=CLASSES,
)


@dataclass(frozen=True)
class Digits:
    """`pool` is what is served: float32 [600, 1, 8, 8], labels as text."""

    onnx: bytes
    profile: bytes
    pool: NDArray[np.float32]
    labels: NDArray[np.str_]

    @property
    def drifted(self) -> NDArray[np.float32]:
        """The pool through a camera with less contrast, out of focus, knocked aside."""
        blurred = ndimage.gaussian_filter(self.pool, (0, 0, 0.6, 0.6))
        moved = ndimage.shift(blurred, (0, 0, 0.7, 0), order=1)
        return (0.5 + (moved - 0.5) * 0.7).clip(0, 1).astype(np.float32)


def digits(seed: int = 0) -> Digits:
    scans = load_digits()
    order = np.random.default_rng(seed).permutation(len(scans.images))
    x = (scans.images[order] / 16).astype(np.float32)[:, None]
    y = scans.target[order].astype(str)
    fitted = LogisticRegression(max_iter=60, tol=1e-2).fit(x[:700].reshape(700, -1), y[:700])
    weights = fitted.coef_.T.astype(np.float32)
    onnx = classifier(weights, CLASSES, bias=fitted.intercept_.astype(np.float32), image=[1, 8, 8])
    reference, labels = x[700:1000], y[700:1000]
    probabilities = fitted.predict_proba(reference.reshape(len(reference), -1))
    found = ch.channels(SIGNATURE, {"image": reference}, {"probabilities": probabilities})
    profile = evaluation_pb2.ReferenceProfile(
        rows=len(reference),
        classes=CLASSES,
        task=types_pb2.TASK_CLASSIFICATION,
        accuracy=float((found["output.class"] == labels).mean()),
    )
    for name, values in found.items():
        channel = profile.channels.add(channel=name)
        if ch.is_categorical(values):
            channel.categories.extend(CLASSES)
            channel.counts.extend(ch.category_histogram(values, CLASSES).tolist())
        else:
            edges = ch.bin_edges(values)
            channel.edges.extend(edges.tolist())
            channel.counts.extend(ch.histogram(values, edges).tolist())
    return Digits(onnx, profile.SerializeToString(), x[1000:1600], y[1000:1600])
