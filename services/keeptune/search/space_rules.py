"""What a search space must keep to; every breach is named by its field, with the way out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import assert_never

from keeptune.runtime.errors import Violation
from keeptune.search import graph_rules
from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange, Value
from keeptune.search.graphs.values import Graph
from keeptune.search.space import Condition, Domain, GraphSpace, Parameter, SearchSpace


def violations(space: SearchSpace, field: str) -> Iterator[Violation]:
    """All that is wrong with `space`, which stands in `field` of the request."""
    if not space.parameters:
        yield Violation(f"{field}.parameters", "is empty", "give at least one parameter")
        return
    found = [*_parameters(space, field), *_references(space, field)]
    yield from found
    if not found:
        yield from _cycles(space, field)


def _parameters(space: SearchSpace, field: str) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for i, parameter in enumerate(space.parameters):
        here = f"{field}.parameters[{i}]"
        first = seen.setdefault(parameter.name, i)
        if first != i:
            yield Violation(
                f"{here}.name",
                f"is {parameter.name!r}, as of parameters[{first}]",
                "give each parameter a name of its own",
            )
        yield from _domain(parameter.domain, f"{here}.{parameter.domain.field}")


def _domain(domain: Domain, field: str) -> Iterator[Violation]:
    match domain:
        case FloatRange() | IntRange():
            yield from _range(domain, field)
        case Categories():
            yield from _categories(domain, field)
        case Fixed():
            if isinstance(domain.value, Graph):
                yield Violation(field, "is a graph", "build it in, and leave the parameter out")
            elif not _is_finite(domain.value):
                yield Violation(field, f"is {domain.value}", "give a finite number")
        case GraphSpace():
            yield from graph_rules.violations(domain, field, violations)
        case _:
            assert_never(domain)


def _range(domain: FloatRange | IntRange, field: str) -> Iterator[Violation]:
    infinite = [name for name in ("min", "max", "step") if not _is_finite(getattr(domain, name))]
    for name in infinite:
        yield Violation(f"{field}.{name}", f"is {getattr(domain, name)}", "give a finite number")
    if infinite:
        return
    span = domain.max - domain.min
    if span < 0:
        yield Violation(f"{field}.min", f"is above max ({domain.min} > {domain.max})", "swap them")
    elif not _is_finite(span):
        yield Violation(f"{field}.max", "is too far above min", "narrow the range")
    if domain.log and domain.min <= 0:
        yield Violation(
            f"{field}.min",
            f"is {domain.min}, and a log scale has no such values",
            "raise min above 0, or use SCALE_LINEAR",
        )
    if domain.step < 0:
        yield Violation(f"{field}.step", f"is {domain.step}", "give a positive step, or 0 for none")
    elif span > 0 and domain.step > span:
        yield Violation(
            f"{field}.step",
            f"is larger than the range ({domain.step} > {span})",
            "make the step smaller, or fix the parameter",
        )


def _categories(domain: Categories, field: str) -> Iterator[Violation]:
    if not domain.options:
        yield Violation(f"{field}.values", "is empty", "give at least one category")
    for i, value in enumerate(domain.options):
        if isinstance(value, Graph):
            yield Violation(
                f"{field}.values[{i}]", "is a graph", "name the graphs, and build them by name"
            )
        elif not _is_finite(value):
            yield Violation(f"{field}.values[{i}]", f"is {value}", "give a finite number")
        elif domain.index(value) != i:
            yield Violation(
                f"{field}.values[{i}]",
                f"is {value!r}, as is values[{domain.index(value)}]",
                "name each category once",
            )


def _references(space: SearchSpace, field: str) -> Iterator[Violation]:
    by_name = space.by_name
    for i, parameter in enumerate(space.parameters):
        for j, condition in enumerate(parameter.conditions):
            here = f"{field}.parameters[{i}].conditions[{j}]"
            parent = by_name.get(condition.parent)
            if parent is None:
                yield Violation(
                    f"{here}.parent",
                    f"is {condition.parent!r}, which is no parameter of the space",
                    f"name one of {', '.join(sorted(by_name))}"[:500],
                )
            elif isinstance(parent.domain, GraphSpace):
                yield Violation(
                    f"{here}.parent",
                    f"is {condition.parent!r}, which is a graph",
                    "let it hang on a parameter with plain values",
                )
            else:
                yield from _condition(condition, parent, here)


def _condition(condition: Condition, parent: Parameter, field: str) -> Iterator[Violation]:
    if condition.is_range:
        yield from _condition_range(condition, parent, field)
        return
    if not condition.values:
        yield Violation(f"{field}.values", "is empty", "give at least one value of the parent")
    for i, value in enumerate(condition.values):
        if not any(parent.domain.contains(reading) for reading in _readings(value)):
            yield Violation(
                f"{field}.values.values[{i}]",
                f"is {value!r}, which {parent.name} never is",
                "give values that the parent can take",
            )


def _condition_range(condition: Condition, parent: Parameter, field: str) -> Iterator[Violation]:
    low, high = condition.low, condition.high
    assert low is not None
    assert high is not None
    if not (_is_finite(low) and _is_finite(high)):
        yield Violation(f"{field}.range", f"is {low} to {high}", "give finite numbers")
    elif low > high:
        yield Violation(f"{field}.range.min", f"is above max ({low} > {high})", "swap them")
    elif isinstance(parent.domain, FloatRange | IntRange):
        if low > parent.domain.max or high < parent.domain.min:
            yield Violation(
                f"{field}.range",
                f"is {low} to {high}, where {parent.name} never is",
                "overlap the parent's range",
            )
    elif not any(
        isinstance(value, int | float) and condition.holds(value)
        for value in parent.domain.values(1)
    ):
        yield Violation(
            f"{field}.range",
            f"is {low} to {high}, where {parent.name} never is",
            "give values that the parent can take",
        )


def _cycles(space: SearchSpace, field: str) -> Iterator[Violation]:
    done: set[str] = set()
    waiting = list(enumerate(space.parameters))
    while waiting:
        left = [(i, p) for i, p in waiting if any(c.parent not in done for c in p.conditions)]
        if len(left) == len(waiting):
            for i, parameter in waiting:
                yield Violation(
                    f"{field}.parameters[{i}].conditions",
                    f"make {parameter.name} depend on itself",
                    "remove one condition of the cycle",
                )
            return
        done |= {p.name for _, p in waiting} - {p.name for _, p in left}
        waiting = left


def _readings(value: Value) -> tuple[Value, ...]:
    """The value, and for a whole float the integer that a condition may mean by it."""
    if isinstance(value, float) and value.is_integer():
        return value, int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value, float(value)
    return (value,)


def _is_finite(value: Value) -> bool:
    return isinstance(value, str | bool | Graph) or math.isfinite(value)
