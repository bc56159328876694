from __future__ import annotations

import numpy as np
import pytest

from keeptune.agent.detectors.accuracy import RECENT, AccuracyDetector
from keeptune.agent.detectors.base import Limits
from keeptune.agent.detectors.health import Baseline, ErrorDetector, LatencyDetector
from keeptune.agent.detectors.rate import RateTest

LIMITS = Limits()


def test_a_rate_at_its_limit_is_not_above_it() -> None:
    rng = np.random.default_rng(0)
    test = RateTest(0.1)
    peak = 0.0
    for step in range(20_000):
        test.update(int(rng.random() < 0.1), 1, float(step))
        peak = max(peak, test.statistic)
    assert peak < 50_000


def test_a_rate_above_its_limit_is_heard_and_dated() -> None:
    rng = np.random.default_rng(1)
    test = RateTest(0.1)
    for step in range(2000):
        test.update(int(rng.random() < (0.05 if step < 1800 else 0.4)), 1, float(step))
    assert test.statistic >= 50_000
    assert test.onset == pytest.approx(1800, abs=30)


def test_accuracy_within_the_allowed_drop_is_fine() -> None:
    rng = np.random.default_rng(2)
    detector = AccuracyDetector(0.95, LIMITS)
    for step in range(5000):
        detector.update(bool(rng.random() < 0.9), float(step))
    assert detector.finding() is None
    assert detector.recent_accuracy == pytest.approx(0.9, abs=0.06)


def test_a_fall_of_accuracy_is_found_and_its_end_too() -> None:
    rng = np.random.default_rng(3)
    detector = AccuracyDetector(0.95, LIMITS)
    for step in range(500):
        detector.update(bool(rng.random() < 0.95), float(step))
    seen = next(
        step
        for step in range(500)
        if detector.update(bool(rng.random() < 0.6), 500.0 + step) or detector.finding()
    )
    assert seen < 150
    finding = detector.finding()
    assert finding is not None
    assert finding.onset.timestamp() == pytest.approx(500, abs=60)
    assert "the limit is 0.850" in finding.note
    for step in range(RECENT + 50):
        detector.update(bool(rng.random() < 0.97), 1000.0 + step)
    assert detector.finding() is None


def test_accuracy_goes_on_after_a_restart() -> None:
    detector = AccuracyDetector(0.95, LIMITS)
    for step in range(40):
        detector.update(step % 4 != 0, float(step))
    again = AccuracyDetector(0.95, LIMITS)
    again.restore(detector.save())
    assert (again.level, again.recent_accuracy, again.outcomes) == (
        detector.level,
        detector.recent_accuracy,
        40,
    )
    with pytest.raises(ValueError, match="accuracy detector"):
        again.restore({})


def test_a_version_that_fails_every_request_is_found_within_a_few() -> None:
    detector = ErrorDetector(LIMITS)
    for step in range(100):
        detector.update(0, 50, float(step))
    detector.update(5, 5, 100.0)
    finding = detector.finding()
    assert finding is not None
    assert "failed" in finding.note


def test_errors_within_the_limit_are_fine_and_an_alarm_ends() -> None:
    rng = np.random.default_rng(4)
    detector = ErrorDetector(LIMITS)
    for step in range(3000):
        detector.update(int(rng.binomial(50, 0.015)), 50, float(step))
    assert detector.finding() is None
    detector.update(40, 50, 3000.0)
    assert detector.finding() is not None
    for step in range(10):
        detector.update(0, 50, 3001.0 + step)
    assert detector.finding() is None


def feed(detector: LatencyDetector, mean_ms: float, start: float, seconds: float) -> None:
    for step in np.arange(0, seconds, 0.5):
        detector.update(25, 25 * mean_ms, start + float(step))


def test_latency_is_judged_against_the_first_minute() -> None:
    detector = LatencyDetector(LIMITS)
    feed(detector, 20.0, 0, 61)
    assert detector.limit_ms == pytest.approx(100)
    feed(detector, 80.0, 61, 60)
    assert detector.finding() is None
    feed(detector, 150.0, 121, 8.5)
    finding = detector.finding()
    assert finding is not None
    assert finding.onset.timestamp() == pytest.approx(121, abs=3)
    feed(detector, 20.0, 130, 10)
    assert detector.finding() is None


def test_a_millisecond_is_not_judged_by_its_noise_and_one_slow_window_is_none() -> None:
    detector = LatencyDetector(LIMITS, Baseline(1.0))
    assert detector.limit_ms == 50
    for start in range(0, 60, 6):
        feed(detector, 200.0, start, 2)
        feed(detector, 1.0, start + 2, 4)
    assert detector.finding() is None


def test_a_given_limit_holds_from_the_first_request() -> None:
    detector = LatencyDetector(Limits(max_latency=0.01))
    feed(detector, 20.0, 0, 9)
    assert detector.finding() is not None


def test_nothing_is_judged_without_requests() -> None:
    detector = LatencyDetector(LIMITS, Baseline(1.0))
    for step in range(100):
        detector.update(1, 500.0, float(step))
    assert detector.finding() is None
