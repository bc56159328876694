"""The reference profile: what inputs and outputs look like when all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime import channels as ch
from keeptune.v1 import evaluation_pb2, types_pb2

_MAX_CATEGORIES = 1000


def reference_profile(
    signature: types_pb2.ModelSignature,
    inputs: Mapping[str, NDArray[np.generic]],
    outputs: Mapping[str, NDArray[np.generic]],
    labels: NDArray[np.generic],
    feature_names: Sequence[str] = (),
) -> evaluation_pb2.ReferenceProfile:
    """Histograms of every channel over the rows, with accuracy and mean confidence on them.

    Arrays have the rows first; `labels` are the true ones as text (unused for regression).
    """
    found = ch.channels(signature, inputs, outputs, feature_names=feature_names)
    profile = evaluation_pb2.ReferenceProfile(
        rows=len(labels), classes=signature.classes, task=signature.task
    )
    classes = list(signature.classes)
    for name, values in found.items():
        known = classes if name == "output.class" and len(classes) <= _MAX_CATEGORIES else None
        profile.channels.append(_channel(name, values, known))
    if signature.task == types_pb2.TASK_CLASSIFICATION:
        profile.accuracy = float((found["output.class"] == labels).mean())
        profile.mean_confidence = float(found["output.confidence"].astype(np.float64).mean())
    return profile


def _channel(
    name: str, values: NDArray[np.generic], categories: list[str] | None
) -> evaluation_pb2.ChannelProfile:
    if ch.is_categorical(values):
        names = ch.categories(values) if categories is None else categories
        return evaluation_pb2.ChannelProfile(
            channel=name,
            categories=names,
            counts=ch.category_histogram(values, names).tolist(),
        )
    edges = ch.bin_edges(values)
    return evaluation_pb2.ChannelProfile(
        channel=name, edges=edges.tolist(), counts=ch.histogram(values, edges).tolist()
    )
