"""Parameters are completed, and everything wrong with them is told at once."""

from __future__ import annotations

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.training.trainers.image import ImageTrainer
from keeptune.training.trainers.parameters import complete

KNOWN = ImageTrainer.parameters


def test_defaults_fill_in_and_types_are_settled() -> None:
    full = complete(KNOWN, {"depth": 1.0, "learning_rate": 1}, field="f")
    assert full["depth"] == 1
    assert isinstance(full["depth"], int)
    assert isinstance(full["learning_rate"], float)
    assert full["batch_size"] == 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 1.5),
        ("depth", 0),
        ("depth", "2"),
        ("depth", True),
        ("dropout", 1.0),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("batch_size", 33),
        ("colour", 1),
    ],
)
def test_a_bad_value_is_named(name: str, value: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        complete(KNOWN, {name: value}, field="training.fixed")
    assert caught.value.field == f"training.fixed[{name!r}]"


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        complete(KNOWN, {"colour": 1, "depth": 0}, field="f")
    assert {violation.field for violation in caught.value.violations} == {
        "f['colour']",
        "f['depth']",
    }
