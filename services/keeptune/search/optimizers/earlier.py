"""What a study takes over from earlier ones, of other data or of a changed space.

A result of an earlier study is kept by those of its parameters that this space has too, as far as
their values mean something here: a number just outside of a range is moved to its end; a result of
a category that is gone, or of a number far outside, says nothing and is left out. What an earlier
study did not know is missing, so that such a result is in general no assignment of this space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from keeptune.search.domains import Categories, Fixed, FloatRange, Value, is_number, same
from keeptune.search.optimizers.base import Result
from keeptune.search.optimizers.standing import order
from keeptune.search.space import Assignment, Domain, GraphSpace, SearchSpace

# A number this far outside of a range, in units of the range, is as good as at its end.
_MARGIN = 0.25
# Of each earlier study. More would make a model of it slow, and teach no more.
MOST_RESULTS = 150


@dataclass(frozen=True)
class Earlier(Result):
    """A result of the earlier study number `source`, counted from 0; parameters may be missing.

    Only the order of losses within one source means anything: other data, another scale.
    """

    source: int = 0


class _Unfit(Enum):
    # The parameter means something else here.
    PARAMETER = 0
    # There is no such point here.
    POINT = 1


def taken_over(space: SearchSpace, source: int, results: Iterable[Result]) -> list[Earlier]:
    """What `space` makes of an earlier study's results: the best and a spread of the rest.

    In the order they came, numbered from -1 down. Empty when nothing fits.
    """
    fitting = []
    for result in results:
        parameters = _fitted(space, result.parameters)
        if parameters:
            fitting.append((result, parameters))
    chosen = _spread([result for result, _ in fitting])
    return [
        Earlier(-i, parameters, result.outcome, result.losses, result.broken, source)
        for i, (result, parameters) in enumerate((fitting[i] for i in chosen), start=1)
    ]


def _spread(results: Sequence[Result]) -> list[int]:
    """The places of at most MOST_RESULTS: the best half of them, and evenly of what follows."""
    if len(results) <= MOST_RESULTS:
        return list(range(len(results)))
    ranked = order(results)
    best = MOST_RESULTS // 2
    rest = ranked[best:]
    step = len(rest) / (MOST_RESULTS - best)
    return sorted(ranked[:best] + [rest[int(i * step)] for i in range(MOST_RESULTS - best)])


def _fitted(space: SearchSpace, parameters: Assignment) -> dict[str, Value] | None:
    """What is left of them here; None where they are no point of this space."""
    values: dict[str, Value] = {}
    for parameter in space.ordered:
        given = parameters.get(parameter.name)
        if given is None or any(
            condition.parent in values and not condition.holds(values[condition.parent])
            for condition in parameter.conditions
        ):
            continue
        value = _moved(parameter.domain, given)
        if value is _Unfit.POINT:
            return None
        if not isinstance(value, _Unfit):
            values[parameter.name] = value
    free = {parameter.name for parameter in space.free}
    return values if free & set(values) else None


def _moved(domain: Domain, value: Value) -> Value | _Unfit:
    if isinstance(domain, Categories):
        alike = any(isinstance(each, str) == isinstance(value, str) for each in domain.options)
        found = (each for each in domain.options if same(each, value))
        return next(found, _Unfit.POINT if alike else _Unfit.PARAMETER)
    if isinstance(domain, Fixed):
        return domain.value if is_number(value) or same(domain.value, value) else _Unfit.POINT
    if isinstance(domain, GraphSpace):
        return value if domain.contains(value) else _Unfit.POINT
    if not is_number(value):
        return _Unfit.PARAMETER
    if domain.contains(value):
        return float(value) if isinstance(domain, FloatRange) else value
    if domain.log and value <= 0:
        return _Unfit.POINT
    unit = domain.to_unit(value)
    if not -_MARGIN <= unit <= 1 + _MARGIN:
        return _Unfit.POINT
    return domain.from_unit(min(max(unit, 0.0), 1.0))
