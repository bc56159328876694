from __future__ import annotations

import numpy as np

from keeptune.agent.outcomes import EARLY_SECONDS, Outcome, OutcomeJoiner, Remembered


def request(name: str, *predictions: str, time: float = 0.0, size: int = 0) -> Remembered:
    inputs = {"x": np.zeros((1, size), np.uint8)} if size else {}
    return Remembered(name, 1, time, predictions or ("7",), inputs)


def test_outcomes_join_once_whatever_their_order() -> None:
    joiner = OutcomeJoiner()
    joiner.remember(request("a", "7"), 0.0)
    joiner.remember(request("b", "3"), 0.0)
    result = joiner.join([Outcome("b", 0, "3"), Outcome("a", 0, "1"), Outcome("c", 0, "1")], 1.0)
    assert [one.right for one in result.joined] == [True, False]
    assert (result.unmatched, result.repeated) == (1, 0)
    again = joiner.join([Outcome("b", 0, "9")], 2.0)
    assert (again.joined, again.repeated) == ((), 1)


def test_rows_of_a_batch_are_joined_each_and_none_beyond() -> None:
    joiner = OutcomeJoiner()
    joiner.remember(request("a", "1", "2"), 0.0)
    result = joiner.join([Outcome("a", 1, "2"), Outcome("a", 0, "2"), Outcome("a", 2, "2")], 1.0)
    assert [(one.row, one.right) for one in result.joined] == [(1, True), (0, False)]
    assert result.unmatched == 1


def test_an_outcome_may_come_just_before_its_sample() -> None:
    joiner = OutcomeJoiner()
    assert joiner.join([Outcome("a", 0, "7"), Outcome("old", 0, "7")], 0.0).unmatched == 2
    assert [one.truth for one in joiner.remember(request("a"), 1.0)] == ["7"]
    # Others push the one that has waited too long out.
    joiner.join([Outcome("other", 0, "7")], EARLY_SECONDS + 1)
    assert joiner.remember(request("old"), EARLY_SECONDS + 1) == ()
    assert joiner.join([Outcome("a", 0, "7")], EARLY_SECONDS + 2).repeated == 1


def test_memory_is_bounded_by_number_bytes_and_age() -> None:
    joiner = OutcomeJoiner(max_requests=3)
    for number in range(5):
        joiner.remember(request(str(number)), 0.0)
    assert len(joiner) == 3
    assert joiner.join([Outcome("1", 0, "7")], 0.0).unmatched == 1

    joiner = OutcomeJoiner(max_bytes=6000)
    for number in range(5):
        joiner.remember(request(str(number), size=1500), 0.0)
    assert len(joiner) == 2

    joiner = OutcomeJoiner(max_age_seconds=10)
    joiner.remember(request("old", time=0.0), 0.0)
    joiner.remember(request("new", time=11.0), 11.0)
    assert len(joiner) == 1


def test_requests_without_an_id_are_not_kept_and_ids_may_be_used_again() -> None:
    joiner = OutcomeJoiner()
    joiner.remember(request(""), 0.0)
    joiner.remember(request("a", "1"), 0.0)
    joiner.join([Outcome("a", 0, "1")], 0.0)
    joiner.remember(request("a", "2"), 1.0)
    assert len(joiner) == 1
    assert joiner.join([Outcome("a", 0, "2")], 1.0).joined[0].right


def test_joins_that_were_not_stored_can_be_made_again() -> None:
    joiner = OutcomeJoiner()
    joiner.remember(request("a"), 0.0)
    result = joiner.join([Outcome("a", 0, "7")], 0.0)
    joiner.undo(result.joined)
    assert joiner.join([Outcome("a", 0, "7")], 0.0).joined
    assert joiner.join([Outcome("a", 0, "7")], 0.0).repeated == 1


def test_what_is_wholly_known_weighs_no_more() -> None:
    joiner = OutcomeJoiner()
    joiner.remember(request("a", "1", "2", size=10_000), 0.0)
    joiner.join([Outcome("a", 0, "1")], 0.0)
    assert len(joiner) == 1
    joiner.join([Outcome("a", 1, "1")], 0.0)
    assert len(joiner) == 0
    again = joiner.join([Outcome("a", 0, "1"), Outcome("a", 5, "1")], 0.0)
    assert (again.repeated, again.unmatched) == (1, 1)
