from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange, same
from keeptune.search.space import Domain

UNITS = st.floats(0, 1)

DOMAINS: dict[str, Domain] = {
    "float": FloatRange(-2.0, 3.0),
    "log": FloatRange(1e-6, 1e3, log=True),
    "step": FloatRange(0.0, 1.0, step=0.1),
    "uneven step": FloatRange(0.0, 1.0, step=0.3),
    "log step": FloatRange(0.5, 100.0, log=True, step=0.5),
    "point": FloatRange(2.0, 2.0),
    "int": IntRange(-3, 12),
    "int log": IntRange(1, 4096, log=True),
    "int step": IntRange(2, 20, step=5),
    "int log step": IntRange(8, 512, log=True, step=8),
    "int point": IntRange(4, 4),
    "categories": Categories(("a", 1, 2.5, True, False)),
    "fixed": Fixed("only"),
}


@pytest.mark.parametrize("name", DOMAINS)
@given(unit=UNITS)
def test_every_coordinate_gives_a_value_of_the_domain(name: str, unit: float) -> None:
    domain = DOMAINS[name]
    value = domain.from_unit(unit)
    assert domain.contains(value)
    back = domain.to_unit(value)
    assert 0 <= back <= 1
    again = domain.from_unit(back)
    if isinstance(value, float):
        assert again == pytest.approx(value, rel=1e-9)
    else:
        assert type(again) is type(value)
        assert again == value


@pytest.mark.parametrize("name", DOMAINS)
def test_the_ends_are_reached(name: str) -> None:
    domain = DOMAINS[name]
    if isinstance(domain, FloatRange | IntRange):
        assert domain.from_unit(0.0) == domain.min
        top = domain.from_unit(1.0)
        assert domain.max - max(domain.step, 1e-9) < top <= domain.max


@pytest.mark.parametrize("name", DOMAINS)
def test_values_are_all_there_once(name: str) -> None:
    domain = DOMAINS[name]
    values = list(domain.values(5))
    assert all(domain.contains(value) for value in values)
    assert len({(type(value), value) for value in values}) == len(values)
    assert len(values) == (domain.cardinality or 5)
    if domain.cardinality:
        for value in values:
            again = domain.from_unit(domain.to_unit(value))
            assert (type(again), again) == (type(value), value)


def test_a_continuum_is_divided_evenly_on_its_scale() -> None:
    assert list(FloatRange(1.0, 100.0, log=True).values(3)) == pytest.approx([1, 10, 100])
    assert list(FloatRange(0.0, 1.0).values(3)) == [0.0, 0.5, 1.0]
    assert list(FloatRange(0.0, 1.0).values(1)) == [0.5]


def test_steps_are_numbers_as_people_write_them() -> None:
    assert list(FloatRange(0.0, 0.5, step=0.1).values(1)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_log_scale_gives_each_magnitude_its_share() -> None:
    domain = IntRange(1, 1000, log=True)
    values = [domain.from_unit((i + 0.5) / 3000) for i in range(3000)]
    below_ten = sum(value < 10 for value in values) / 3000
    assert below_ten == pytest.approx(math.log(9.5 / 0.5) / math.log(1000.5 / 0.5), abs=0.01)


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (FloatRange(0.0, 1.0), 1.1),
        (FloatRange(0.0, 1.0), math.nan),
        (FloatRange(0.0, 1.0), "0.5"),
        (FloatRange(0.0, 1.0), True),
        (FloatRange(0.0, 1.0, step=0.25), 0.3),
        (IntRange(0, 4), 2.0),
        (IntRange(0, 4), True),
        (IntRange(0, 4, step=2), 3),
        (IntRange(0, 4), 5),
        (Categories((1, "a")), True),
        (Categories((1, "a")), 1.0),
        (Fixed(1), True),
    ],
)
def test_other_values_are_not_of_the_domain(domain: Domain, value: object) -> None:
    assert not domain.contains(value)  # type: ignore[arg-type]


def test_truth_is_no_number() -> None:
    assert same(1, 1.0)
    assert same("a", "a")
    assert not same(1, True)
    assert not same("1", 1)
