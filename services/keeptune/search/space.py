"""The search space: parameters, the conditions under which they exist, and assignments.

An assignment holds a value for every active parameter and none for the others. A parameter is
active while all its conditions hold, which they do only while their parents are active.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import ClassVar, assert_never

from keeptune.search.domains import (
    Categories,
    Fixed,
    FloatRange,
    IntRange,
    Value,
    is_number,
    same,
)
from keeptune.search.graphs import rules, sampling
from keeptune.search.graphs.growth import Trees
from keeptune.search.graphs.values import Graph

Assignment = Mapping[str, Value]


@dataclass(frozen=True)
class Condition:
    """Holds while `parent` has one of `values`, or lies in `low` to `high`, both included."""

    parent: str
    values: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def is_range(self) -> bool:
        return self.low is not None

    def holds(self, value: Value) -> bool:
        if self.low is None or self.high is None:
            return any(same(value, wanted) for wanted in self.values)
        return is_number(value) and self.low <= value <= self.high


class Shape(StrEnum):
    """How the nodes of a graph may hang together."""

    CHAIN = "CHAIN"
    DAG = "DAG"
    TREE = "TREE"


@dataclass(frozen=True)
class Kind:
    """A kind of node. It takes one input of each type of `inputs`, and gives one of type `output`.

    Where `most_inputs` is more than these, the last of them may be repeated; 0 = no more.
    """

    name: str
    parameters: SearchSpace
    inputs: tuple[str, ...] = ("",)
    output: str = ""
    most_inputs: int = 0

    @property
    def arities(self) -> range:
        """How many inputs it may take."""
        return range(len(self.inputs), max(len(self.inputs), self.most_inputs) + 1)

    def taking(self, count: int) -> tuple[str, ...]:
        """The types of its inputs where it has so many."""
        return self.inputs + self.inputs[-1:] * (count - len(self.inputs))


@dataclass(frozen=True)
class GraphSpace:
    """Graphs of nodes of these kinds, of at most `max_nodes` nodes.

    `input` and `output` are the types of the graph's own input and of what it has to give. Bounds
    of 0 bind nothing. To optimisers that know no graphs it is a continuum without an order.
    """

    field: ClassVar[str] = "graph"
    cardinality: ClassVar[int | None] = None

    kinds: tuple[Kind, ...]
    shape: Shape
    max_nodes: int
    min_nodes: int = 1
    min_depth: int = 0
    max_depth: int = 0
    max_width: int = 0
    allow_skips: bool = False
    input: str = ""
    output: str = ""

    @cached_property
    def by_name(self) -> Mapping[str, Kind]:
        return {kind.name: kind for kind in self.kinds}

    @cached_property
    def trees(self) -> Trees:
        """The trees of its kinds, from which its graphs are made."""
        return Trees(self)

    def contains(self, value: Value) -> bool:
        return isinstance(value, Graph) and rules.problem_with(self, value) is None

    def from_unit(self, unit: float) -> Graph:
        """A graph that is drawn by chance; the coordinate tells its size, smallest first."""
        return sampling.from_unit(self, unit)

    def to_unit(self, value: Value) -> float:
        """By the size alone, as graphs have no order."""
        assert isinstance(value, Graph)
        return sampling.to_unit(self, value)

    def values(self, levels: int) -> Iterator[Graph]:
        """Some graphs, of growing size."""
        yield from (self.from_unit((i + 0.5) / levels) for i in range(levels))


Domain = FloatRange | IntRange | Categories | Fixed | GraphSpace


@dataclass(frozen=True)
class Parameter:
    name: str
    domain: Domain
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class SearchSpace:
    """Parameters in the order they were given. Check a new one with `space_rules.violations`."""

    parameters: tuple[Parameter, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def ordered(self) -> tuple[Parameter, ...]:
        """Parents before children, else as given."""
        done: dict[str, Parameter] = {}
        waiting = list(self.parameters)
        while waiting:
            ready = [p for p in waiting if all(c.parent in done for c in p.conditions)]
            if not ready:
                raise ValueError("the conditions form a cycle, or name an unknown parent")
            done |= {p.name: p for p in ready}
            waiting = [p for p in waiting if p.name not in done]
        return tuple(done.values())

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """Those that leave something to choose, in the order given."""
        return tuple(p for p in self.parameters if p.domain.cardinality != 1)

    @cached_property
    def graphs(self) -> tuple[str, ...]:
        """The names of the parameters that are graphs, in the order given."""
        return tuple(p.name for p in self.parameters if isinstance(p.domain, GraphSpace))

    @cached_property
    def is_conditional(self) -> bool:
        return any(p.conditions for p in self.parameters)

    def is_active(self, parameter: Parameter, values: Assignment) -> bool:
        """Whether it exists beside `values`, which hold its active ancestors."""
        return all(
            condition.parent in values and condition.holds(values[condition.parent])
            for condition in parameter.conditions
        )

    def assign(self, choices: Mapping[str, Value]) -> dict[str, Value]:
        """The assignment that these choices for all free parameters make; inactive ones go."""
        values: dict[str, Value] = {}
        for parameter in self.ordered:
            if self.is_active(parameter, values):
                chosen = choices.get(parameter.name)
                values[parameter.name] = (
                    parameter.domain.from_unit(0.5) if chosen is None else chosen
                )
        return {p.name: values[p.name] for p in self.parameters if p.name in values}

    def at(self, units: Mapping[str, float]) -> dict[str, Value]:
        """The assignment at coordinates in [0, 1] of the free parameters."""
        domains = self.by_name
        return self.assign({name: domains[name].domain.from_unit(u) for name, u in units.items()})

    def grid(self, levels: int) -> Iterator[dict[str, Value]]:
        """Every distinct assignment once, with `levels` values for each continuum.

        The last parameter changes fastest. Depth first with a stack of its own: a space may have
        a thousand parameters.
        """
        order = self.ordered
        values: dict[str, Value] = {}
        stack: list[Iterator[Value | None]] = []
        while True:
            if len(stack) == len(order):
                yield {p.name: values[p.name] for p in self.parameters if p.name in values}
            else:
                parameter = order[len(stack)]
                active = self.is_active(parameter, values)
                stack.append(parameter.domain.values(levels) if active else iter((None,)))
                if self._advance(stack, order, values):
                    continue
            while stack and not self._advance(stack, order, values):
                stack.pop()
            if not stack:
                return

    @staticmethod
    def _advance(
        stack: list[Iterator[Value | None]],
        order: tuple[Parameter, ...],
        values: dict[str, Value],
    ) -> bool:
        """Moves the deepest parameter to its next value; False when it has none left."""
        name = order[len(stack) - 1].name
        values.pop(name, None)
        for value in islice(stack[-1], 1):
            if value is not None:
                values[name] = value
            return True
        return False

    def size(self, limit: int) -> int | None:
        """How many assignments there are, if at most `limit`; None when there are more."""
        if any(p.domain.cardinality is None for p in self.parameters):
            return None
        found = sum(1 for _ in islice(self.grid(1), limit + 1))
        return found if found <= limit else None

    def grid_levels(self, budget: int) -> int:
        """How many values of each continuum keep the grid within the budget; at least 2."""
        finite = math.prod(p.domain.cardinality or 1 for p in self.parameters)
        continua = sum(p.domain.cardinality is None for p in self.parameters)
        if not continua:
            return 1
        return max(2, int((budget / finite) ** (1 / continua) + 1e-9))

    def problem_with(self, values: Assignment) -> tuple[str, str] | None:
        """Name and problem of the first parameter at fault; None for a right assignment."""
        for parameter in self.ordered:
            name = parameter.name
            if not self.is_active(parameter, values):
                if name in values:
                    return name, "is given though its conditions do not hold"
                continue
            if name not in values:
                return name, "is missing"
            value = values[name]
            if isinstance(parameter.domain, GraphSpace) and isinstance(value, Graph):
                wrong = rules.problem_with(parameter.domain, value)
                if wrong is not None:
                    return name, wrong
            elif not parameter.domain.contains(value):
                return name, f"is {value!r}, which {describe(parameter.domain)} has not"
        unknown = sorted(set(values) - set(self.by_name))
        return (unknown[0], "is no parameter of the space") if unknown else None


def describe(domain: Domain) -> str:
    """The domain in words, for messages."""
    match domain:
        case Fixed():
            return f"the fixed value {domain.value!r}"
        case Categories():
            return f"the set of {domain.cardinality} categories"
        case FloatRange():
            step = f" by {domain.step:g}" if domain.step else ""
            return f"the range {domain.min:g} to {domain.max:g}{step}"
        case IntRange():
            step = f" by {domain.step}" if domain.step > 1 else ""
            return f"the integers {domain.min} to {domain.max}{step}"
        case GraphSpace():
            return f"the space of graphs of {', '.join(domain.by_name)}"
        case _:
            assert_never(domain)
