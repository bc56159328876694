import random

import pytest

from keeptune.runtime.backoff import Backoff


def test_delays_grow_to_a_limit_and_begin_again() -> None:
    backoff = Backoff(initial=1, maximum=10, factor=3, jitter=0)
    assert [backoff.next() for _ in range(5)] == [1, 3, 9, 10, 10]
    backoff.reset()
    assert backoff.next() == 1


def test_chance_shortens_by_at_most_its_share() -> None:
    backoff = Backoff(initial=8, maximum=8, jitter=0.25, rng=random.Random(1))
    delays = [backoff.next() for _ in range(200)]
    assert all(6 <= delay <= 8 for delay in delays)
    assert max(delays) - min(delays) > 1.5


def test_what_the_other_side_asks_for_is_kept() -> None:
    backoff = Backoff(initial=1, maximum=10, jitter=0)
    assert backoff.next(at_least=60) == 60
    assert backoff.next() == 2


@pytest.mark.parametrize(
    "wrong",
    [{"initial": 0}, {"initial": 5, "maximum": 1}, {"factor": 0.5}, {"jitter": 2}],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Backoff(**wrong)  # type: ignore[arg-type]
