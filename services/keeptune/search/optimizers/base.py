"""The one interface of all optimisers: ask for a point, tell what came of it.

An optimiser is pure: what it suggests follows from the problem (with its seed) and the sequence of
`ask` and `tell`, in any process and at any time. So it is never stored: it is rebuilt by asking
and telling again (see `replay`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, runtime_checkable

from keeptune.search.space import Assignment, SearchSpace


@dataclass(frozen=True)
class Problem:
    """What an optimiser is made for. `trials` = how many are planned; None = nobody knows."""

    space: SearchSpace
    seed: int
    trials: int | None = None
    objectives: int = 1
    constraints: int = 0
    # The same parameters may give other losses.
    noisy: bool = False


@dataclass(frozen=True)
class Suggestion:
    """`source` names what proposed it.

    `because` says in a few words for people why, e.g. "explore: the model knows least here".
    `continue_from` is the number of a completed trial whose checkpoint the training goes on from;
    0 = it begins anew.
    """

    parameters: Assignment
    source: str
    because: str = ""
    continue_from: int = 0


class Nothing(Enum):
    """Why there is no suggestion."""

    # Results of trials under way must come in first.
    YET = auto()
    # The space is exhausted.
    LEFT = auto()


class Outcome(Enum):
    MEASURED = auto()
    # The parameters cannot be evaluated: to be avoided.
    INFEASIBLE = auto()
    # Something else broke; it says nothing about the parameters.
    FAILED = auto()


@dataclass(frozen=True)
class Result:
    """What came of trial `number`.

    `losses` has one entry an objective, less is better; empty unless MEASURED. `broken` tells by
    how much each constraint is broken; not above 0 while it holds.
    """

    number: int
    parameters: Assignment
    outcome: Outcome
    losses: tuple[float, ...] = ()
    broken: tuple[float, ...] = ()

    @property
    def is_feasible(self) -> bool:
        return self.outcome is Outcome.MEASURED and all(by <= 0 for by in self.broken)


class Optimizer(Protocol):
    """One whose suggestions do not depend on results says so: `learns = False`."""

    def ask(self, number: int) -> Suggestion | Nothing:
        """The parameters of trial `number`; numbers grow, not always by one.

        A call that returns Nothing changes nothing.
        """

    def tell(self, result: Result) -> None:
        """Learns from a result; also of a trial that was never asked for (an imported one)."""


@runtime_checkable
class Adopting(Optimizer, Protocol):
    """One that can be told what it suggested, which spares it computing its history again.

    Only for optimisers whose `ask(number)` follows from the problem, the number, the results told
    and the trials pending alone: no state of a random generator may live from one call to the next.
    """

    def adopt(self, number: int, parameters: Assignment) -> None:
        """Trial `number` was suggested with these parameters: as after `ask`, without its cost."""


@dataclass(frozen=True)
class Algorithm:
    """What ListAlgorithms says of one."""

    name: str
    description: str
    source: str
    multi_objective: bool = False
    constraints: bool = False
    parallel: bool = True
    # It searches graph parameters; spaces with some are refused to others.
    graphs: bool = False


@dataclass(frozen=True)
class Method:
    """An algorithm and what makes its optimisers; what the entry point of a plugin names."""

    algorithm: Algorithm
    make: Callable[[Problem], Optimizer]
