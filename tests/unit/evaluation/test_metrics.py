"""Metrics against hand computations and against the libraries' own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from keeptune.evaluation import metrics

PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]
)
TRUTH = np.array([0, 1, 2, 1, 1])


def values(found: tuple[metrics.MetricValue, ...]) -> dict[str, float]:
    return {value.metric: value.value for value in found}


def test_classification_by_hand() -> None:
    found = values(metrics.classification(TRUTH, PROBABILITIES, 0.95))
    assert found["accuracy"] == 0.8
    assert found["precision"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["recall"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 0.8 + 1) / 3)
    losses = -np.log([0.9, 0.7, 0.4, 0.3, 0.8])
    assert found["log_loss"] == pytest.approx(losses.mean())
    # One row a bin of width 1/15 (0.9, 0.7, 0.4, 0.6, 0.8): the gaps to being right or wrong.
    gaps = [0.1, 0.3, 0.6, 0.6, 0.2]
    assert found["calibration_error"] == pytest.approx(np.mean(gaps))


def test_calibration_error_pools_rows_of_a_bin() -> None:
    probabilities = np.array([[0.81, 0.19]] * 10)
    truth = np.array([0] * 8 + [1] * 2)
    found = values(metrics.classification(truth, probabilities, 0.95))
    assert found["calibration_error"] == pytest.approx(0.01)


def test_certainty_is_counted_in_the_last_bin() -> None:
    found = values(metrics.classification(np.array([0, 1]), np.eye(2), 0.95))
    assert found["calibration_error"] == 0.0
    found = values(metrics.classification(np.array([1, 0]), np.eye(2), 0.95))
    assert found["calibration_error"] == 1.0


def test_log_loss_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(4), 200)
    truth = rng.integers(0, 4, 200)
    expected = sk.log_loss(truth, probabilities, labels=range(4))
    assert metrics.log_losses(truth, probabilities).mean() == pytest.approx(expected)


def test_a_label_the_model_does_not_know_is_wrong_and_costs_the_most() -> None:
    truth = metrics.positions(np.array(["a", "zebra"]), ["a", "b"])
    assert truth.tolist() == [0, metrics.UNKNOWN]
    probabilities = np.array([[0.9, 0.1], [1.0, 0.0]])
    assert metrics.right(truth, probabilities).tolist() == [True, False]
    assert metrics.log_losses(truth, probabilities)[1] == pytest.approx(-np.log(1.1920929e-07))


def test_intervals() -> None:
    found = {v.metric: v for v in metrics.classification(TRUTH, PROBABILITIES, 0.95)}
    # Wilson's interval of 4 in 5, by its formula.
    z = stats.norm.ppf(0.975)
    centre, reach = 0.8 + z**2 / 10, z * np.sqrt(0.8 * 0.2 / 5 + z**2 / 100)
    accuracy = found["accuracy"]
    assert accuracy.lower == pytest.approx((centre - reach) / (1 + z**2 / 5))
    assert accuracy.upper == pytest.approx((centre + reach) / (1 + z**2 / 5))
    losses = metrics.log_losses(TRUTH, PROBABILITIES)
    interval = stats.ttest_1samp(losses, 0).confidence_interval(0.95)
    assert found["log_loss"].lower == pytest.approx(max(0.0, interval.low))
    assert found["log_loss"].upper == pytest.approx(interval.high)
    assert found["f1"].lower is None


def test_regression_by_hand() -> None:
    found = {
        v.metric: v
        for v in metrics.regression(
            np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 6.0]), 0.9
        )
    }
    assert found["rmse"].value == 1.0
    assert found["mae"].value == 0.5
    assert found["r2"].value == pytest.approx(1 - 4 / 5)
    interval = stats.ttest_1samp([0, 0, 0, 4.0], 0).confidence_interval(0.9)
    assert found["rmse"].lower == 0.0
    assert found["rmse"].upper == pytest.approx(np.sqrt(interval.high))


def test_one_row_has_values_but_no_spread() -> None:
    found = {v.metric: v for v in metrics.regression(np.array([1.0]), np.array([3.0]), 0.95)}
    assert found["rmse"].value == 2.0
    assert found["rmse"].lower is None
    assert "r2" not in found
    one = {v.metric: v for v in metrics.classification(TRUTH[:1], PROBABILITIES[:1], 0.95)}
    assert one["accuracy"].value == 1.0
    assert one["log_loss"].upper is None
