"""The contract between keeptune and a trainer, for those who write one.

A trainer is a class registered under the entry point group `keeptune.trainers`; keeptune makes
one instance of it without arguments. The service process reads its description and lets it check
data; worker processes call `fit` and `export`. So the module that defines the class must be cheap
to import: torch and other heavy libraries belong inside `fit` and `export`.

    class MyTrainer:
        name = "mine"                       # trainers/mine
        ...
        def fit(self, context):
            for step in range(1, context.epochs + 1):
                ...                         # ask context.stopped() between batches; True: return
                yield Epoch(step, {"accuracy": 0.9}, weights=lambda: {"w": array})

`fit` must be deterministic: the same data, parameters and seed give the same measurements on a
CPU. A worker may be killed at any time and the trial is then fitted again from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keeptune.training.model import Recipe, Scalar, Signature, Task
from keeptune.training.trainers.parameters import Parameter


@dataclass(frozen=True)
class Rows:
    """`x` float32 [n, ...], read-only; `y` [n]: int64 class indices, or float32 values."""

    x: NDArray[np.float32]
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class TrainingData:
    """Prepared data: split, labels turned into indices of `classes`, columns named."""

    task: Task
    train: Rows
    validation: Rows
    classes: tuple[str, ...] = ()
    # Empty unless x is [n, features].
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainerMetric:
    name: str
    maximize: bool


@dataclass(frozen=True)
class FitContext:
    """All that one trial has. `parameters` are complete: the trainer's defaults are filled in."""

    data: TrainingData
    parameters: Mapping[str, Scalar]
    epochs: int
    seed: int
    # As torch names it: "cpu" or "cuda:0".
    device: str
    recipe: Recipe
    # True as soon as nobody wants this trial any more: return from `fit` without another epoch.
    stopped: Callable[[], bool]


@dataclass(frozen=True)
class Epoch:
    """What was measured after `step` epochs (from 1), and how to get the weights of that moment.

    `weights` is called at most for the epoch that is kept: while `fit` waits there, or after it
    ended there.
    """

    step: int
    metrics: Mapping[str, float]
    weights: Callable[[], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class FittedModel:
    """What a checkpoint holds: enough to build the served model without the training data."""

    parameters: Mapping[str, Scalar]
    signature: Signature
    feature_names: tuple[str, ...]
    weights: Mapping[str, NDArray[Any]]


class NotFiniteError(Exception):
    """Training met a loss or weight that is not a finite number: the parameters cannot work."""

    def __init__(self, step: int, evidence: str) -> None:
        super().__init__(evidence)
        self.step = step
        self.evidence = evidence


class Trainer(Protocol):
    @property
    def name(self) -> str:
        """The id in `trainers/{id}`: `[a-z0-9-]{1,63}`."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same inputs may give another model."""
        ...

    @property
    def description(self) -> str: ...

    @property
    def data_contract(self) -> str:
        """What the dataset must hold, in words."""
        ...

    @property
    def tasks(self) -> Sequence[Task]: ...

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Every parameter it knows, with the range it recommends to search."""
        ...

    @property
    def recipes(self) -> frozenset[str]:
        """Fields of `Recipe` that it carries out, e.g. "augmentation"."""
        ...

    @property
    def default_epochs(self) -> int: ...

    def metrics(self, task: Task) -> Sequence[TrainerMetric]:
        """What every epoch measures."""
        ...

    def check(self, data: TrainingData) -> str:
        """What is wrong with the data, as the end of a sentence; empty when they will do."""
        ...

    def signature(self, data: TrainingData) -> Signature:
        """Inputs and outputs of the model that fitting these data will give."""
        ...

    def fit(self, context: FitContext) -> Iterator[Epoch]:
        """Fits one trial, an epoch a step. Raises NotFiniteError."""
        ...

    def export(self, fitted: FittedModel, rows: NDArray[np.float32], path: Path) -> float:
        """Writes the served model as one ONNX file (opset 20, dynamic batch, weights inline).

        `rows` are real inputs [n, ...], n >= 1. Returns the largest difference on them between
        the written file under ONNX Runtime and the trainer's own model, relative to the largest
        output where that is above 1.
        """
        ...
