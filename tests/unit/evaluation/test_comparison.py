"""Paired tests: against hand computations, against scipy, and for the coverage they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from keeptune.evaluation import comparison


def rights(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    candidate = np.repeat([True, True, False, False], [both, gained, lost, neither])
    champion = np.repeat([True, False, True, False], [both, gained, lost, neither])
    return candidate, champion


def test_mcnemar_by_hand() -> None:
    test = comparison.mcnemar(*rights(50, 9, 1, 40), 0.95)
    assert test.test == "mcnemar-exact"
    assert (test.candidate_only_right, test.champion_only_right) == (9, 1)
    assert test.difference == pytest.approx(0.08)
    # Two-sided: 2 * (C(10,0) + C(10,1)) / 2**10.
    assert test.p_value == pytest.approx(22 / 1024)
    assert test.lower > 0


def test_newcombe_by_hand() -> None:
    """Method 10, step by step, for 36, 9, 2, 3 of 50."""
    test = comparison.mcnemar(*rights(36, 9, 2, 3), 0.95)
    z = stats.norm.ppf(0.975)

    def wilson(count: int) -> tuple[float, float]:
        p, n = count / 50, 50
        middle = p + z**2 / (2 * n)
        reach = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)

    (l1, u1), (l2, u2) = wilson(45), wilson(38)
    # 36 * 3 - 9 * 2 = 90, less 50 / 2 for continuity.
    phi = 65 / np.sqrt(45 * 5 * 38 * 12)
    d1, d2 = 0.9 - l1, u2 - 0.76
    e1, e2 = u1 - 0.9, 0.76 - l2
    assert test.lower == pytest.approx(0.14 - np.sqrt(d1**2 - 2 * phi * d1 * d2 + d2**2))
    assert test.upper == pytest.approx(0.14 + np.sqrt(e1**2 - 2 * phi * e1 * e2 + e2**2))


def test_newcombe_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    shares = np.array([0.75, 0.12, 0.06, 0.07])
    draws = rng.multinomial(120, shares, size=800)
    covered = 0
    for both, gained, lost, neither in draws:
        low, high = comparison._newcombe(int(both), int(gained), int(lost), int(neither), 0.95)
        covered += low <= 0.06 <= high
    assert 0.93 <= covered / len(draws) <= 0.985


def test_equal_models_show_no_difference() -> None:
    test = comparison.mcnemar(*rights(90, 0, 0, 10), 0.95)
    assert (test.difference, test.p_value) == (0.0, 1.0)
    assert test.lower <= 0 <= test.upper
    losses = np.linspace(0, 1, 50)
    test = comparison.paired_permutation("mae", losses, losses, 0.95)
    assert (test.difference, test.p_value) == (0.0, 1.0)


def test_swapping_the_models_turns_the_sign() -> None:
    one = comparison.mcnemar(*rights(50, 9, 4, 37), 0.95)
    other = comparison.mcnemar(*reversed(rights(50, 9, 4, 37)), 0.95)
    assert other.difference == -one.difference
    assert other.p_value == one.p_value
    assert (other.lower, other.upper) == pytest.approx((-one.upper, -one.lower))


@pytest.mark.parametrize("rows", [8, 40])
def test_permutation_agrees_with_scipy(rows: int) -> None:
    rng = np.random.default_rng(5)
    candidate, champion = rng.exponential(1.0, rows), rng.exponential(1.7, rows)
    ours = comparison.paired_permutation("log_loss", candidate, champion, 0.95)
    theirs = stats.permutation_test(
        (candidate, champion),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(6),
        vectorized=True,
    )
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-12 if rows == 8 else 0.02)
    interval = stats.ttest_rel(candidate, champion).confidence_interval(0.95)
    assert (ours.lower, ours.upper) == pytest.approx((interval.low, interval.high))


def test_permutation_is_the_same_every_time_and_for_any_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    losses = rng.random(3000), rng.random(3000)
    first = comparison.paired_permutation("mae", *losses, 0.95)
    assert comparison.paired_permutation("mae", *losses, 0.95) == first
    assert 0.01 < first.p_value <= 1


def test_a_clear_difference_is_seen_but_p_is_never_zero() -> None:
    better = comparison.paired_permutation("mae", np.zeros(500), np.ones(500), 0.95)
    assert better.difference == -1
    assert better.p_value == pytest.approx(1 / 5000)


def test_false_alarms_stay_at_the_level() -> None:
    rng = np.random.default_rng(8)
    alarms = sum(
        comparison.paired_permutation(
            "mae", rng.exponential(size=11), rng.exponential(size=11), 0.95
        ).p_value
        <= 0.05
        for _ in range(400)
    )
    assert alarms / 400 <= 0.08


def test_regression_compares_squared_and_absolute_errors() -> None:
    truth = np.array([0.0, 0.0, 0.0])
    found = comparison.compare_regression(
        truth, np.array([1.0, 1.0, 1.0]), np.array([2.0, 2.0, 3.0]), 0.95
    )
    assert [(t.metric, round(t.difference, 6)) for t in found] == [
        ("rmse", round(1 - 17 / 3, 6)),
        ("mae", round(1 - 7 / 3, 6)),
    ]
