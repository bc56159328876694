"""Channels: the few numbers a request and its answer are boiled down to, and their histograms.

Evaluation counts them on reference data, the agent counts them on live traffic; drift is a
difference between the two histograms. Both call this module so that the numbers cannot differ.
numpy only, because the agent must stay light.

A channel is an array with one value a row: float64, or text for a category.

- image inputs (rank 2 [h, w] or rank 3 [c, h, w] without the batch): `image.mean`, `image.max`,
  `image.gradient` (contrast of neighbours), `image.center_x` and `image.center_y` (centre of
  brightness, 0 to 1), `image.projection_0` to `_7` (fixed random directions);
- other inputs: `input.<feature name or index>`, the first 64;
- outputs: `output.confidence`, `output.entropy` (0 to 1), `output.class`; `output.value` for
  regression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from keeptune.v1 import types_pb2

Channels = dict[str, NDArray[np.generic]]
Floats = NDArray[np.float64]

MAX_FEATURES = 64
PROJECTIONS = 8
# Projections look at a picture pooled to at most this many cells a side: bounded in cost, and
# about what the picture shows rather than about its noise.
_CELLS = 32
_PROJECTION_SEED = 20010

# Quantiles that bins are cut at: coarse in the middle, fine where a shift shows first.
_TAIL = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
_LEVELS = (*_TAIL, 0.5, *(1 - level for level in reversed(_TAIL)))
_MIN_ROWS_PER_BIN = 4
_ATOM_SHARE = 0.04
# Values this close (relative to the value, or to the channel's spread) count as one: the same
# number reaches the agent with as few as 6 digits.
_TOLERANCE = 2e-5


def channels(
    signature: types_pb2.ModelSignature,
    inputs: Mapping[str, NDArray[np.generic]],
    outputs: Mapping[str, NDArray[np.generic]],
    *,
    feature_names: Sequence[str] = (),
) -> Channels:
    """The channels of a batch of requests (arrays with the batch first) and of its answers.

    `feature_names` name the columns of a single vector input; without them columns are numbered.
    Raises ValueError when a tensor of the signature is missing or has another rank.
    """
    found: Channels = {}
    vectors: list[tuple[types_pb2.TensorSpec, NDArray[np.generic]]] = []
    images = [spec for spec in signature.inputs if _is_image(spec)]
    for spec in signature.inputs:
        values = _tensor(spec, inputs)
        if _is_image(spec):
            prefix = "image" if spec is images[0] else f"image.{spec.name}"
            found |= {f"{prefix}.{k}": v for k, v in _image_channels(values).items()}
        else:
            vectors.append((spec, values))
    found |= _input_channels(vectors, feature_names)
    if signature.outputs:
        found |= _output_channels(signature, _tensor(signature.outputs[0], outputs))
    return found


def feature_names_in(channel_names: Iterable[str]) -> list[str]:
    """The feature names that a profile's channels were named by, for use in `channels`."""
    return [name.removeprefix("input.") for name in channel_names if name.startswith("input.")]


def bin_edges(values: NDArray[np.generic]) -> Floats:
    """Inner bin edges for reference values: about 24 bins, finer in the tails.

    A value that many rows share (4 % or more) has a bin of its own, whatever comes near it.
    Edges lie between values, not on them, so that rounding moves no row to another bin.
    No tail bin is cut where fewer than 4 reference rows would remain. Non-finite values are left
    out; without any finite value there are no edges, thus one bin.
    """
    finite = np.sort(np.asarray(values, dtype=np.float64))
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return np.empty(0)
    distinct, counts = np.unique(finite, return_counts=True)
    spread = float(np.subtract(*np.quantile(finite, (0.99, 0.01))))
    smallest_scale = max(spread, float(np.abs(finite).max()) * 1e-3) or 1.0
    edges: set[float] = set()
    atoms: list[tuple[float, float]] = []
    for atom in distinct[counts >= max(2, _ATOM_SHARE * finite.size)]:
        reach = _TOLERANCE * max(abs(float(atom)), smallest_scale)
        atoms.append((float(atom) - reach, float(atom) + reach))
        edges.update(atoms[-1])
    cumulative = np.cumsum(counts)
    for level in _LEVELS:
        index = int(np.searchsorted(cumulative, level * finite.size, side="right"))
        if level != 0.5 and min(level, 1 - level) * finite.size < _MIN_ROWS_PER_BIN:
            continue
        if 0 < index < distinct.size:
            edge = float(distinct[index - 1] + distinct[index]) / 2
            if not any(low <= edge <= high for low, high in atoms):
                edges.add(edge)
    return np.array(sorted(edges))


def histogram(values: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows per bin, `len(edges) + 1` counts; NaN falls in the last bin."""
    numbers = np.asarray(values, dtype=np.float64)
    bins = np.searchsorted(edges, numbers, side="right")
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.int64)


def categories(values: NDArray[np.generic], limit: int = 64) -> list[str]:
    """The most frequent values, at most `limit`, in alphabetical order."""
    names, counts = np.unique(np.asarray(values, dtype=str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:limit]
    return sorted(str(names[i]) for i in order)


def category_histogram(values: NDArray[np.generic], names: Sequence[str]) -> NDArray[np.int64]:
    """Rows per category, `len(names) + 1` counts; the last is of all other values."""
    place = {name: index for index, name in enumerate(names)}
    bins = [place.get(str(value), len(names)) for value in np.asarray(values).tolist()]
    return np.bincount(np.array(bins, dtype=np.int64), minlength=len(names) + 1).astype(np.int64)


def is_categorical(values: NDArray[np.generic]) -> bool:
    return values.dtype.kind in "USO"


def _is_image(spec: types_pb2.TensorSpec) -> bool:
    shape = list(spec.shape)
    return len(shape) in (2, 3) and all(size == -1 or size > 1 for size in shape[-2:])


def _tensor(
    spec: types_pb2.TensorSpec, tensors: Mapping[str, NDArray[np.generic]]
) -> NDArray[np.generic]:
    if spec.name not in tensors:
        raise ValueError(f"tensor {spec.name!r} is missing; there are {sorted(tensors)}")
    values = np.asarray(tensors[spec.name])
    if values.ndim != len(spec.shape) + 1:
        raise ValueError(
            f"tensor {spec.name!r} has shape {list(values.shape)}; expected the batch and "
            f"{list(spec.shape)}"
        )
    return values


def _image_channels(images: NDArray[np.generic]) -> Channels:
    pictures = np.asarray(images, dtype=np.float64)
    grey = pictures if pictures.ndim == 3 else pictures.mean(axis=1)
    rows = len(grey)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = grey - grey.min(axis=(1, 2), keepdims=True)
        total = weights.sum(axis=(1, 2))
        across = np.abs(np.diff(grey, axis=2)).reshape(rows, -1).mean(axis=1)
        down = np.abs(np.diff(grey, axis=1)).reshape(rows, -1).mean(axis=1)
        found: Channels = {
            "mean": grey.mean(axis=(1, 2)),
            "max": grey.max(axis=(1, 2)),
            "std": grey.std(axis=(1, 2)),
            "gradient": across + down,
            "center_x": _center(weights.sum(axis=1), total),
            "center_y": _center(weights.sum(axis=2), total),
        }
        pooled = _pool(grey).reshape(rows, -1)
        projected = pooled @ _directions(pooled.shape[1]).T
    return found | {f"projection_{k}": projected[:, k] for k in range(PROJECTIONS)}


def _center(weights: Floats, total: Floats) -> Floats:
    """Centre of mass of each row of `weights`, 0 to 1; 0.5 where there is no mass."""
    places = np.linspace(0.0, 1.0, weights.shape[1])
    empty = total <= 0
    center: Floats = (weights @ places) / np.where(empty, 1.0, total)
    return np.where(empty, 0.5, center)


def _pool(grey: Floats) -> Floats:
    """Means over square blocks, so that neither side has more than 32 cells."""
    rows, height, width = grey.shape
    tall, wide = -(-height // _CELLS), -(-width // _CELLS)
    cut = grey[:, : height // tall * tall, : width // wide * wide]
    blocks = cut.reshape(rows, height // tall, tall, width // wide, wide)
    pooled: Floats = blocks.mean(axis=(2, 4))
    return pooled


@lru_cache(maxsize=16)
def _directions(size: int) -> Floats:
    """Unit vectors [8, size], the same in every program.

    RandomState and not a Generator: its stream is frozen, while a Generator's may change with
    numpy's version, and the agent's numpy need not be that of evaluation.
    """
    drawn = np.random.RandomState(_PROJECTION_SEED).standard_normal((PROJECTIONS, size))
    unit: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    unit.setflags(write=False)
    return unit


def _input_channels(
    vectors: Sequence[tuple[types_pb2.TensorSpec, NDArray[np.generic]]],
    feature_names: Sequence[str],
) -> Channels:
    found: Channels = {}
    for spec, values in vectors:
        columns = values.reshape(len(values), -1)
        if columns.shape[1] == 1 and len(vectors) > 1:
            names = [spec.name]
        elif len(vectors) == 1:
            numbered = [str(index) for index in range(columns.shape[1])]
            names = [*feature_names[: len(numbered)], *numbered[len(feature_names) :]]
        else:
            names = [f"{spec.name}.{index}" for index in range(columns.shape[1])]
        for index, name in enumerate(names):
            if len(found) == MAX_FEATURES:
                return found
            found[f"input.{name}"] = _column(columns[:, index])
    return found


def _column(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if not is_categorical(values):
        return values.astype(np.float64)
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return np.array(texts, dtype=str)


def _output_channels(signature: types_pb2.ModelSignature, output: NDArray[np.generic]) -> Channels:
    values = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
    if signature.task == types_pb2.TASK_REGRESSION:
        return {"output.value": values[:, 0]}
    labels = list(signature.classes) or [str(index) for index in range(values.shape[1])]
    if len(labels) != values.shape[1]:
        raise ValueError(f"output has {values.shape[1]} columns for {len(labels)} classes")
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(values > 0, values * np.log(np.where(values > 0, values, 1.0)), 0.0)
        terms = np.where(np.isnan(values), np.nan, terms)
        entropy = -terms.sum(axis=1) / max(np.log(values.shape[1]), 1e-12)
    return {
        "output.confidence": values.max(axis=1),
        "output.entropy": entropy,
        "output.class": np.array(labels, dtype=str)[values.argmax(axis=1)],
    }
