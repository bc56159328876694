"""For tools without conditions: all parameters at once; those that do not apply are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keeptune.search.domains import Categories, FloatRange, IntRange, Value
from keeptune.search.space import Assignment, SearchSpace


def assignment(space: SearchSpace, values: Mapping[str, Any]) -> Assignment:
    """From numbers, and for categories their indices, also as text; rounding errors are mended."""
    choices: dict[str, Value] = {}
    for parameter in space.free:
        value, domain = values[parameter.name], parameter.domain
        if isinstance(domain, Categories):
            choices[parameter.name] = domain.options[int(value)]
        elif isinstance(domain, IntRange):
            choices[parameter.name] = min(max(round(value), domain.min), domain.max)
        elif isinstance(domain, FloatRange):
            choices[parameter.name] = min(max(float(value), domain.min), domain.max)
    return space.assign(choices)


def indices(domain: Categories) -> list[str]:
    """The categories as tools that know only text want them."""
    return [str(i) for i in range(len(domain.options))]
