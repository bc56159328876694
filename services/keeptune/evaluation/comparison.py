"""Candidate against champion on the same rows: paired tests with intervals. Pure, seeded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from keeptune.evaluation.metrics import Floats, student_reach
from keeptune.evaluation.model import Comparison

MCNEMAR = "mcnemar-exact"
PERMUTATION = "paired-permutation"

_SEED = 20260101
_PERMUTATIONS = 4999
# Sign flips drawn at a time: bounds the memory, whatever the number of rows.
_CHUNK = 1 << 22


def compare_classification(
    candidate_right: NDArray[np.bool_],
    champion_right: NDArray[np.bool_],
    candidate_log_losses: Floats,
    champion_log_losses: Floats,
    confidence: float,
) -> tuple[Comparison, ...]:
    """Of accuracy and log loss, from what each row came to; all arrays [rows].

    Per row and not from probabilities, as two models may order or know their classes differently.
    """
    return (
        mcnemar(candidate_right, champion_right, confidence),
        paired_permutation("log_loss", candidate_log_losses, champion_log_losses, confidence),
    )


def compare_regression(
    truth: Floats, candidate: Floats, champion: Floats, confidence: float
) -> tuple[Comparison, ...]:
    """Of squared errors (for rmse) and absolute errors (for mae); all arrays [rows]."""
    wrong, was_wrong = candidate - truth, champion - truth
    return (
        paired_permutation("rmse", wrong**2, was_wrong**2, confidence),
        paired_permutation("mae", np.abs(wrong), np.abs(was_wrong), confidence),
    )


def mcnemar(
    candidate_right: NDArray[np.bool_], champion_right: NDArray[np.bool_], confidence: float
) -> Comparison:
    """McNemar's exact test of two accuracies, with Newcombe's interval of their difference.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial
    proportions based on paired data", method 10.
    """
    both = int((candidate_right & champion_right).sum())
    gained = int((candidate_right & ~champion_right).sum())
    lost = int((~candidate_right & champion_right).sum())
    rows = len(candidate_right)
    changed = gained + lost
    p_value = stats.binomtest(gained, changed, 0.5).pvalue if changed else 1.0
    lower, upper = _newcombe(both, gained, lost, rows - both - changed, confidence)
    return Comparison(
        metric="accuracy",
        test=MCNEMAR,
        difference=(gained - lost) / rows,
        lower=lower,
        upper=upper,
        p_value=float(p_value),
        candidate_only_right=gained,
        champion_only_right=lost,
    )


def paired_permutation(
    metric: str, candidate: Floats, champion: Floats, confidence: float
) -> Comparison:
    """A paired permutation test of mean losses (two rows or more), with Student's interval.

    Under the null hypothesis each row's two losses may be swapped. All swaps are tried where
    there are few, else 4999 drawn ones (with the observed one counted, so p is never 0).
    """
    gaps = candidate - champion
    mean = float(gaps.mean())
    reach = student_reach(gaps, confidence)
    return Comparison(
        metric=metric,
        test=PERMUTATION,
        difference=mean,
        lower=mean - reach,
        upper=mean + reach,
        p_value=_sign_flip_p_value(gaps),
    )


def _sign_flip_p_value(gaps: Floats) -> float:
    moved = gaps[gaps != 0]
    if moved.size == 0:
        return 1.0
    # Rounding must not tell apart sums that are equal.
    observed = abs(float(moved.sum())) - 1e-9 * float(np.abs(moved).sum())
    if 2**moved.size <= _PERMUTATIONS:
        signs = 1 - 2 * (np.arange(2**moved.size)[:, None] >> np.arange(moved.size) & 1)
        return float((np.abs(signs @ moved) >= observed).mean())
    rng = np.random.default_rng(_SEED)
    extreme, left = 0, _PERMUTATIONS
    while left:
        count = min(left, max(1, _CHUNK // moved.size))
        flips = rng.integers(0, 2, (count, moved.size), dtype=np.int8).astype(np.float64)
        sums = moved.sum() - 2 * (flips @ moved)
        extreme += int((np.abs(sums) >= observed).sum())
        left -= count
    return (extreme + 1) / (_PERMUTATIONS + 1)


def _newcombe(
    both: int, gained: int, lost: int, neither: int, confidence: float
) -> tuple[float, float]:
    rows = both + gained + lost + neither
    first, second = (both + gained) / rows, (both + lost) / rows
    low_1, high_1 = _wilson(both + gained, rows, confidence)
    low_2, high_2 = _wilson(both + lost, rows, confidence)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    surplus = both * neither - gained * lost
    corrected = max(surplus - rows / 2, 0.0) if surplus > 0 else surplus
    correlation = corrected / math.sqrt(margins) if margins else 0.0

    def combined(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    difference = first - second
    return (
        difference - combined(first - low_1, high_2 - second),
        difference + combined(high_1 - first, second - low_2),
    )


def _wilson(count: int, rows: int, confidence: float) -> tuple[float, float]:
    interval = stats.binomtest(count, rows).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
