"""Words to write spaces with.

Parameters can be put under a prefix and a condition, so that those of one family of models serve a
task of its own and as a branch of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from keeptune.search.domains import Categories, FloatRange, IntRange, Value
from keeptune.search.space import Assignment, Condition, Parameter, SearchSpace


def space(*parameters: Parameter) -> SearchSpace:
    return SearchSpace(parameters)


def real(name: str, low: float, high: float, *when: Condition, log: bool = False) -> Parameter:
    return Parameter(name, FloatRange(low, high, log=log), when)


def whole(name: str, low: int, high: int, *when: Condition, log: bool = False) -> Parameter:
    return Parameter(name, IntRange(low, high, log=log), when)


def choice(name: str, options: Iterable[Value], *when: Condition) -> Parameter:
    return Parameter(name, Categories(tuple(options)), when)


def when(parent: str, *values: Value) -> Condition:
    return Condition(parent, values)


def branch(
    parameters: Iterable[Parameter], prefix: str, condition: Condition
) -> tuple[Parameter, ...]:
    """The parameters under a prefix, there only while the condition holds."""
    return tuple(
        replace(
            parameter,
            name=prefix + parameter.name,
            conditions=(
                condition,
                *(replace(c, parent=prefix + c.parent) for c in parameter.conditions),
            ),
        )
        for parameter in parameters
    )


def without(prefix: str, assignment: Assignment) -> dict[str, Value]:
    """The part of an assignment that stands under a prefix."""
    return {
        name.removeprefix(prefix): value
        for name, value in assignment.items()
        if name.startswith(prefix)
    }
