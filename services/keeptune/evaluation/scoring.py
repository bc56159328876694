"""One dataset's result: both models' metrics, overall and slice by slice, and the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keeptune.evaluation import comparison, metrics
from keeptune.evaluation.model import (
    Comparison,
    DatasetResult,
    MetricValue,
    ModelResult,
    SliceResult,
)
from keeptune.runtime.errors import InvalidInput

# Of a dataset; keeps an evaluation within the size of one message.
MAX_SLICES = 256
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScores:
    """A classifier's answers: the true class's position [rows], probabilities [rows, classes]."""

    truth: metrics.Ints
    probabilities: metrics.Floats

    def rows(self, mask: Mask) -> ClassScores:
        return ClassScores(self.truth[mask], self.probabilities[mask])

    def metrics(self, confidence: float) -> tuple[MetricValue, ...]:
        return metrics.classification(self.truth, self.probabilities, confidence)

    def against(self, champion: ClassScores, confidence: float) -> tuple[Comparison, ...]:
        return comparison.compare_classification(
            metrics.right(self.truth, self.probabilities),
            metrics.right(champion.truth, champion.probabilities),
            metrics.log_losses(self.truth, self.probabilities),
            metrics.log_losses(champion.truth, champion.probabilities),
            confidence,
        )


@dataclass(frozen=True)
class ValueScores:
    """A regressor's answers: the true and the predicted value, both [rows]."""

    truth: metrics.Floats
    values: metrics.Floats

    def rows(self, mask: Mask) -> ValueScores:
        return ValueScores(self.truth[mask], self.values[mask])

    def metrics(self, confidence: float) -> tuple[MetricValue, ...]:
        return metrics.regression(self.truth, self.values, confidence)

    def against(self, champion: ValueScores, confidence: float) -> tuple[Comparison, ...]:
        return comparison.compare_regression(self.truth, self.values, champion.values, confidence)


Scores = ClassScores | ValueScores


def score(
    dataset: str,
    candidate: Scores,
    champion: Scores | None,
    slices: Mapping[str, NDArray[np.str_]],
    confidence: float,
    *,
    field: str,
) -> DatasetResult:
    """The result on one dataset. Raises InvalidInput for too many slices."""
    masks = dict(_masks(slices, field))
    compared = _against(candidate, champion, confidence)
    result = _result(candidate, masks, confidence)
    result = replace(
        result,
        slices=tuple(
            replace(part, comparisons=_against(candidate, champion, confidence, mask))
            for part, mask in zip(result.slices, masks.values(), strict=True)
        ),
    )
    return DatasetResult(
        dataset=dataset,
        rows=len(candidate.truth),
        candidate=result,
        champion=None if champion is None else _result(champion, masks, confidence),
        comparisons=compared,
    )


def _result(scores: Scores, masks: Mapping[str, Mask], confidence: float) -> ModelResult:
    return ModelResult(
        metrics=scores.metrics(confidence),
        slices=tuple(
            SliceResult(name, int(mask.sum()), scores.rows(mask).metrics(confidence))
            for name, mask in masks.items()
        ),
    )


def _against(
    candidate: Scores, champion: Scores | None, confidence: float, mask: Mask | None = None
) -> tuple[Comparison, ...]:
    if champion is not None and mask is not None:
        candidate, champion = candidate.rows(mask), champion.rows(mask)
    # A single row has no spread: it says nothing of a difference.
    if champion is None or len(candidate.truth) < 2:
        return ()
    if isinstance(candidate, ClassScores) and isinstance(champion, ClassScores):
        return candidate.against(champion, confidence)
    if isinstance(candidate, ValueScores) and isinstance(champion, ValueScores):
        return candidate.against(champion, confidence)
    raise TypeError("candidate and champion have different tasks")


def _masks(slices: Mapping[str, NDArray[np.str_]], field: str) -> Iterator[tuple[str, Mask]]:
    distinct = {column: np.unique(values) for column, values in slices.items()}
    if sum(map(len, distinct.values())) > MAX_SLICES:
        sizes = ", ".join(f"{column!r} has {len(found)}" for column, found in distinct.items())
        raise InvalidInput(
            field=f"{field}.slice_columns",
            problem=f"have too many different values: {sizes}",
            fix=f"slice by columns of at most {MAX_SLICES} values together",
        )
    for column, found in distinct.items():
        for value in found:
            yield f"{column}={value}", slices[column] == value


def unscored(dataset: str, rows: int) -> DatasetResult:
    """Of a candidate whose outputs are no numbers: nothing about it is defined."""
    return DatasetResult(dataset, rows, ModelResult(()))
