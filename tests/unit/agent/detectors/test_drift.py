from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keeptune.agent.detectors.base import Limits
from keeptune.agent.detectors.betting import BETS, Bank, fixed_payoffs
from keeptune.agent.detectors.drift import BURN_IN, WINDOW, DriftDetector, Phase
from keeptune.agent.detectors.effect import total_variation
from keeptune.agent.detectors.reference import UNUSABLE, Reference
from keeptune.runtime.channels import Channels
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import evaluation_pb2

from .conftest import Digits, profile_of, rows

Make = Callable[..., Digits]


def detector(
    profile: evaluation_pb2.ReferenceProfile, seed: int = 0, **limits: float
) -> DriftDetector:
    return DriftDetector(
        Reference.from_profile(profile),
        Limits(**limits),  # type: ignore[arg-type]
        np.random.default_rng(seed),
    )


def serve(
    watched: DriftDetector,
    pool: Channels,
    count: int,
    rng: np.random.Generator,
    *,
    until_alarm: bool = False,
) -> int:
    """Requests drawn from the pool, five at a time; returns how many came."""
    size = len(next(iter(pool.values())))
    for served in range(0, count, 5):
        start = watched.samples
        times = np.arange(start, start + 5, dtype=np.float64)
        watched.update(rows(pool, rng.integers(0, size, 5)), times)
        if until_alarm and watched.phase is Phase.ALARM:
            return served + 5
    return count


def gaussian(rng: np.random.Generator, count: int, shift: float = 0.0) -> Channels:
    return {f"input.{k}": rng.normal(shift if k == 0 else 0.0, 1.0, count) for k in range(6)}


@pytest.mark.parametrize(("seed", "reference"), [(0, 200), (1, 200), (2, 300), (3, 400), (4, 400)])
def test_a_calm_host_with_few_distinct_images_never_alarms(
    digits: Make, seed: int, reference: int
) -> None:
    calm = digits(seed, reference)
    watched = detector(calm.profile, seed)
    serve(watched, calm.pool, 4000, np.random.default_rng(seed), until_alarm=True)
    assert watched.phase is Phase.CALM
    assert watched.finding() is None
    assert watched.level < 0


@pytest.mark.parametrize(("seed", "calm_rows"), [(0, 300), (1, 800), (2, 2000)])
def test_a_changed_camera_is_heard_within_fifty_samples(
    digits: Make, seed: int, calm_rows: int
) -> None:
    host = digits(seed)
    assert host.accuracy(host.pool) - host.accuracy(host.drifted_pool) >= 0.15
    watched = detector(host.profile, seed)
    rng = np.random.default_rng(seed)
    serve(watched, host.pool, calm_rows, rng)
    assert watched.finding() is None
    delay = serve(watched, host.drifted_pool, 400, rng, until_alarm=True)
    assert delay <= 50
    finding = watched.finding()
    assert finding is not None
    assert finding.statistic >= finding.threshold == 50_000
    assert abs(finding.onset.timestamp() - calm_rows) <= 20
    assert finding.samples_since_onset >= delay - 20
    assert finding.shifts[0].effect > 0.5
    assert [s.effect for s in finding.shifts] == sorted(
        (s.effect for s in finding.shifts), reverse=True
    )
    for shift in finding.shifts:
        assert sum(shift.reference) == pytest.approx(1)
        assert sum(shift.current) == pytest.approx(1)


def test_a_host_whose_traffic_is_drifted_from_the_first_request_alarms(digits: Make) -> None:
    host = digits(5)
    watched = detector(host.profile)
    assert serve(watched, host.drifted_pool, 400, np.random.default_rng(5), until_alarm=True) < 60


def test_an_alarm_stays_while_the_drift_does_and_ends_after_it(digits: Make) -> None:
    host = digits(6)
    watched = detector(host.profile)
    rng = np.random.default_rng(6)
    serve(watched, host.pool, 800, rng)
    serve(watched, host.drifted_pool, 1000, rng)
    assert watched.phase is Phase.ALARM
    serve(watched, host.pool, 400, rng)
    assert watched.phase is Phase.CALM
    assert watched.finding() is None
    assert serve(watched, host.drifted_pool, 400, rng, until_alarm=True) <= 60


@pytest.mark.parametrize(("shift", "within"), [(1.0, 150), (2.0, 50)])
def test_one_shifted_feature_of_six_is_heard(shift: float, within: int) -> None:
    rng = np.random.default_rng(11)
    watched = detector(profile_of(gaussian(rng, 400)))
    serve(watched, gaussian(rng, 5000), 1000, rng)
    assert serve(watched, gaussian(rng, 5000, shift), 600, rng, until_alarm=True) <= within
    finding = watched.finding()
    assert finding is not None
    first = finding.shifts[0]
    assert first.channel == "input.0"
    assert first.reference_mean == pytest.approx(0, abs=0.2)
    assert first.current_mean == pytest.approx(shift, abs=0.6)


def test_a_shift_too_small_to_matter_is_absorbed() -> None:
    rng = np.random.default_rng(12)
    watched = detector(profile_of(gaussian(rng, 1000)), min_effect=0.3)
    serve(watched, gaussian(rng, 5000), 1500, rng)
    serve(watched, gaussian(rng, 5000, 0.5), 3000, rng)
    assert watched.phase is Phase.CALM
    assert watched.small_shifts >= 1
    assert watched.crossed == 0 or watched.samples - watched.crossed < WINDOW


def test_a_restarted_agent_goes_on_where_it_was(digits: Make) -> None:
    host = digits(7)
    one, two = detector(host.profile, 1), detector(host.profile, 1)
    rng = np.random.default_rng(7)
    for watched in (one, two):
        serve(watched, host.pool, 500, np.random.default_rng(70))
    again = detector(host.profile, 1)
    again._rng = two._rng
    again.restore(two.save())
    for watched in (one, again):
        serve(watched, host.drifted_pool, 100, np.random.default_rng(71))
    assert again.finding() == one.finding() is not None
    with pytest.raises(ValueError, match="not of this reference"):
        detector(profile_of(gaussian(rng, 100))).restore(two.save())


def test_what_is_missing_or_not_finite_feeds_no_test(digits: Make) -> None:
    host = digits(8)
    watched = detector(host.profile)
    rng = np.random.default_rng(8)
    serve(watched, host.pool, 500, rng)
    before = watched.bank.wealth.copy()
    nothing = {"image.mean": np.full(30, np.nan), "image.std": np.full(30, np.inf), "new": []}
    watched.update(nothing, np.zeros(30))  # type: ignore[arg-type]
    assert watched.unusable == 30
    assert watched.samples == 500
    np.testing.assert_array_equal(watched.bank.wealth, before)
    # One channel going blind leaves the others watching.
    blind = {**host.drifted_pool, "image.std": np.full(host.size, np.nan)}
    assert serve(watched, blind, 400, rng, until_alarm=True) <= 60


def test_every_bet_has_mean_one() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    np.testing.assert_allclose(fixed_payoffs(p).mean(axis=0), 1.0, rtol=1e-4)
    assert fixed_payoffs(p).min() > 0


def test_wealth_grows_by_at_most_one_a_step_in_the_mean() -> None:
    """Shiryaev-Roberts: E[R_n] = n, whatever the adaptive bets have learned."""
    rng = np.random.default_rng(13)
    # Few steps: later, most of the mean lies in a few rich streams.
    streams, steps = 20_000, 4
    bank = Bank(streams)
    usable = np.ones(streams, dtype=bool)
    for step in range(steps):
        bank.update(rng.random(streams), usable, step)
    mean = bank.wealth.mean(axis=0)
    assert mean.shape == (BETS,)
    np.testing.assert_allclose(mean, steps, rtol=0.1)


def test_effects_of_small_samples_are_not_mistaken_for_shifts() -> None:
    rng = np.random.default_rng(14)
    p = np.full(8, 1 / 8)
    reference = rng.multinomial(300, p, size=2000).astype(float)
    current = rng.multinomial(40, p, size=2000).astype(float)
    same = total_variation(reference, current, deviations=3)
    assert (same == 0).mean() > 0.99
    moved = rng.multinomial(400, [0.5, 0.5, 0, 0, 0, 0, 0, 0], size=50).astype(float)
    assert total_variation(reference[:50], moved) == pytest.approx(0.75, abs=0.1)
    assert total_variation(reference[:1], np.zeros((1, 8)))[0] == 0


def test_bins_follow_the_profile() -> None:
    profile = evaluation_pb2.ReferenceProfile(
        channels=[
            evaluation_pb2.ChannelProfile(channel="a", edges=[0, 1], counts=[1, 2, 3]),
            evaluation_pb2.ChannelProfile(channel="b", categories=["x", "y"], counts=[4, 4, 0]),
        ]
    )
    bins = Reference.from_profile(profile).bins(
        {"a": np.array([-1.0, 0.0, np.nan]), "b": np.array(["y", "new", "x"])}, 3
    )
    assert bins.tolist() == [[0, 1], [1, 2], [UNUSABLE, 0]]


@pytest.mark.parametrize(
    "channel",
    [
        evaluation_pb2.ChannelProfile(channel="a", edges=[0, 1], counts=[1, 2]),
        evaluation_pb2.ChannelProfile(channel="a", edges=[1, 0], counts=[1, 2, 3]),
        evaluation_pb2.ChannelProfile(channel="a", edges=[float("nan")], counts=[1, 2]),
        evaluation_pb2.ChannelProfile(channel="a", edges=[0], counts=[1, -2]),
        None,
    ],
)
def test_a_broken_profile_is_refused(channel: evaluation_pb2.ChannelProfile | None) -> None:
    profile = evaluation_pb2.ReferenceProfile(channels=[channel] if channel else [])
    with pytest.raises(InvalidInput) as caught:
        Reference.from_profile(profile)
    assert caught.value.field.startswith("reference_profile.channels")


def test_the_burn_in_ends_after_its_rows(digits: Make) -> None:
    host = digits(9)
    watched = detector(host.profile)
    rng = np.random.default_rng(9)
    serve(watched, host.pool, BURN_IN - 5, rng)
    assert watched.phase is Phase.BURN_IN
    serve(watched, host.pool, 5, rng)
    assert watched.phase is Phase.CALM
    # From here on the baseline is what this host served, not what evaluation saw.
    assert watched.counts.sum(axis=1).tolist() == [BURN_IN] * len(watched.reference.names)
