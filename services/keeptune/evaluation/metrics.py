"""How good a model's outputs are, with intervals where a metric has one. Pure.

Labels are positions in the model's list of classes; a row whose true label the model does not
know has position -1 and counts as wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from mapie.metrics.calibration import expected_calibration_error
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from keeptune.evaluation.model import MetricValue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALIBRATION_BINS = 15
# The served outputs are float32: below its resolution a probability says no more.
_SMALLEST = float(np.finfo(np.float32).eps)
UNKNOWN = -1


def positions(labels: NDArray[np.generic], classes: Sequence[str]) -> Ints:
    """Each label's place in `classes`, -1 for labels that are not there."""
    place = {name: index for index, name in enumerate(classes)}
    return np.array([place.get(str(label), UNKNOWN) for label in labels.tolist()], np.int64)


def right(truth: Ints, probabilities: Floats) -> NDArray[np.bool_]:
    """Whether the most probable class [rows, classes] is the true one, per row."""
    hit: NDArray[np.bool_] = probabilities.argmax(axis=1) == truth
    return hit


def log_losses(truth: Ints, probabilities: Floats) -> Floats:
    """Per row, in nats; probabilities are clipped at float32's resolution."""
    rows = np.arange(len(truth))
    given = np.where(truth == UNKNOWN, 0.0, probabilities[rows, truth])
    losses: Floats = -np.log(np.clip(given, _SMALLEST, 1.0))
    return losses


def classification(
    truth: Ints, probabilities: Floats, confidence: float
) -> tuple[MetricValue, ...]:
    """Accuracy, macro precision, recall and F1, log loss (nats), calibration error (0 to 1).

    The macro means are over the classes that occur among the true or the predicted ones. The
    calibration error is the expected one of the top class over 15 equal bins (Naeini et al.,
    2015). Intervals: Wilson's for accuracy, Student's for the log loss.
    """
    predicted = probabilities.argmax(axis=1)
    hits = right(truth, probabilities)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, predicted, average="macro", zero_division=0.0
    )
    calibration = expected_calibration_error(
        hits.astype(int),
        np.clip(probabilities.max(axis=1), 0.0, 1.0),
        num_bins=CALIBRATION_BINS,
        split_strategy="uniform",
    )
    return (
        _share("accuracy", hits, confidence),
        MetricValue("precision", float(precision)),
        MetricValue("recall", float(recall)),
        MetricValue("f1", float(f1)),
        _mean("log_loss", log_losses(truth, probabilities), confidence),
        MetricValue("calibration_error", float(calibration)),
    )


def regression(truth: Floats, values: Floats, confidence: float) -> tuple[MetricValue, ...]:
    """Root mean squared error, mean absolute error, and R2 where it is defined.

    R2 needs two rows and a truth that varies. Intervals: Student's of the mean squared error,
    carried through the root, and of the mean absolute error.
    """
    squared = _mean("rmse", (values - truth) ** 2, confidence)
    found = [
        MetricValue("rmse", math.sqrt(squared.value), _root(squared.lower), _root(squared.upper)),
        _mean("mae", np.abs(values - truth), confidence),
    ]
    if len(truth) > 1 and np.ptp(truth) > 0:
        found.append(MetricValue("r2", float(sk.r2_score(truth, values))))
    return tuple(found)


def by_name(values: Sequence[MetricValue]) -> Mapping[str, MetricValue]:
    return {value.metric: value for value in values}


def _share(name: str, hits: NDArray[np.bool_], confidence: float) -> MetricValue:
    count = int(hits.sum())
    interval = stats.binomtest(count, len(hits)).proportion_ci(confidence, method="wilson")
    return MetricValue(name, count / len(hits), float(interval.low), float(interval.high))


def _mean(name: str, losses: Floats, confidence: float) -> MetricValue:
    """The mean of losses, none below 0, with Student's interval (none for a single row)."""
    mean = float(losses.mean())
    if len(losses) < 2:
        return MetricValue(name, mean)
    reach = student_reach(losses, confidence)
    return MetricValue(name, mean, max(0.0, mean - reach), mean + reach)


def student_reach(values: Floats, confidence: float) -> float:
    """Half the width of Student's interval for the mean of two or more values."""
    deviation = float(values.std(ddof=1)) / np.sqrt(len(values))
    return float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * deviation)


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)
