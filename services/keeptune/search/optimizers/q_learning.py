"""`q-learning`: learns in a table which change of which parameter improves a result.

A suggestion is one of the best points so far with one parameter changed. The state is where that
parameter stands: its value, or of a number with many values a part of its range. The actions are
the other categories, or a near or far step up or down. The reward is the improvement, measured in
the share of all results that a result beats, so that any loss will do; what comes after counts by
the best change from there. After each result pairs of results are replayed as if one had been made
of the other; where they differ in many parameters, each of them learns the less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keeptune.search.domains import Categories, Value
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result
from keeptune.search.optimizers.evenly_started import EvenlyStarted
from keeptune.search.space import Assignment, Domain, Parameter

ALGORITHM = Algorithm(
    name="q-learning",
    description=(
        "Tabular Q-learning over changes of one parameter at a time, epsilon-greedy with "
        "experience replay. For small discrete spaces."
    ),
    source=(
        "Watkins and Dayan, Q-Learning, Machine Learning 8, 1992; with replay as in Baker et al., "
        "Designing Neural Network Architectures Using Reinforcement Learning, ICLR 2017, "
        "https://arxiv.org/abs/1611.02167"
    ),
    multi_objective=True,
    constraints=True,
)

_TRIES = 32
# How fast what is learned from a pair falls with the number of parameters that differ: which of
# them made the difference is not known.
_SHARED = 3
# Tells the seed of the replay after a result from that of any trial.
_REPLAY = 2**41

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Settings:
    start: int = 10
    # A number with more values is cut into so many parts.
    parts: int = 8
    learning_rate: float = 0.3
    # What later improvements count beside the next.
    discount: float = 0.3
    # How many pairs of the past are replayed after each result, and as many with the new one.
    replayed: int = 32
    # The share of changes made by chance.
    chance: float = 0.2
    # The others are drawn by what they are worth: one worth so much more is e times as likely.
    temperature: float = 0.1
    # Points are changed that are among so many best.
    bases: int = 1


@dataclass(frozen=True)
class _Change:
    """Of a parameter's place in its table by an action, which leads to another place."""

    name: str
    place: int
    action: int
    end: int


class QLearning(EvenlyStarted):
    name = ALGORITHM.name

    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        super().__init__(problem, settings.start, least=1)
        self._settings = settings
        self._tables = {p.name: Table(p, settings.parts) for p in problem.space.free}

    def tell(self, result: Result) -> None:
        if self._trials.tell(result):
            self._replay()

    def _learnt(self, number: int) -> tuple[Assignment, str]:
        """A base with one parameter changed; to a point not tried yet, unless none is found."""
        bases = self._trials.standing.usable[: self._settings.bases]
        rng = seeds.generator(self._problem.seed, number)
        for again in range(_TRIES):
            base = bases[int(rng.integers(len(bases)))].parameters
            moves = [
                (table.worth[place, action], name, action)
                for name, table in self._tables.items()
                if name in base
                for place in [table.place(base[name])]
                for action in table.actions(place)
            ]
            if not moves:
                return base, "exploit: there is nothing to change"
            by_chance = rng.random() < max(self._settings.chance, again / _TRIES)
            worths = np.array([worth for worth, _, _ in moves])
            odds = np.exp((worths - worths.max()) / self._settings.temperature)
            odds = np.ones(len(moves)) if by_chance else odds
            chosen = int(rng.choice(len(moves), p=odds / odds.sum()))
            worth, name, action = moves[chosen]
            parameters = self._applied(base, name, action, rng)
            if self._trials.is_new(parameters):
                break
        else:
            parameters = self._start.at(self._trials, number)
        what = "explore: a change by chance" if by_chance else "exploit: the best change known"
        return parameters, f"{what}, of {name}, worth {worth:+.2f} of the ranking"

    def _applied(
        self, base: Assignment, name: str, action: int, rng: np.random.Generator
    ) -> Assignment:
        """What begins to exist by the change is drawn at random."""
        choices = {**_anything(self._problem, rng), **base}
        choices[name] = self._tables[name].changed(base[name], action, rng)
        return self._problem.space.assign(choices)

    def _replay(self) -> None:
        standing = self._trials.standing
        rng = seeds.generator(self._problem.seed, _REPLAY, standing.count)
        ranked, usable = standing.ranked, len(standing.usable)
        latest = next(i for i, result in enumerate(ranked) if result is standing.told[-1])
        if len(ranked) < 2:
            return
        count = self._settings.replayed
        pairs = rng.integers(len(ranked), size=(2 * count, 2))
        pairs[:count, 0] = latest
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        for a, b in pairs.tolist():
            # What could not be evaluated shares the last place.
            better = (min(a, usable) - min(b, usable)) / len(ranked)
            self._learn([*self._changes(ranked[a].parameters, ranked[b].parameters)], better)

    def _changes(self, a: Assignment, b: Assignment) -> Iterator[_Change]:
        """What makes b of a."""
        for name, table in self._tables.items():
            if name in a and name in b:
                action = table.action(a[name], b[name])
                if action is not None:
                    yield _Change(name, table.place(a[name]), action, table.place(b[name]))

    def _learn(self, changes: list[_Change], reward: float) -> None:
        for change in changes:
            worth = self._tables[change.name].worth
            # From anywhere one may also stay.
            later = max(0.0, float(worth[change.end].max()))
            target = reward + self._settings.discount * later
            rate = self._settings.learning_rate / len(changes) ** _SHARED
            worth[change.place, change.action] += rate * (
                target - worth[change.place, change.action]
            )


class Table:
    """What changes of one parameter are worth: (places, actions)."""

    _STEPS = ((-4.0, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 4.0))

    def __init__(self, parameter: Parameter, parts: int) -> None:
        self._domain: Domain = parameter.domain
        size = parameter.domain.cardinality
        self._places = size if self._is_category and size else min(size or parts, parts)
        actions = self._places if self._is_category else len(self._STEPS)
        self.worth: Floats = np.zeros((self._places, actions))

    @property
    def _is_category(self) -> bool:
        return isinstance(self._domain, Categories)

    def place(self, value: Value) -> int:
        unit = self._domain.to_unit(value)
        return min(max(int(unit * self._places), 0), self._places - 1)

    def actions(self, place: int) -> list[int]:
        """Those that lead elsewhere."""
        if self._is_category:
            return [action for action in range(self._places) if action != place]
        down, up = place > 0, place < self._places - 1
        return [i for i, possible in enumerate((down, True, True, up)) if possible]

    def action(self, a: Value, b: Value) -> int | None:
        """The one that leads from a to b; None when they are the same."""
        if self._is_category:
            end = self.place(b)
            return None if end == self.place(a) else end
        step = (self._domain.to_unit(b) - self._domain.to_unit(a)) * self._places
        if step == 0.0:
            return None
        far = abs(step) > 1.0 + 1e-9
        return (0 if far else 1) if step < 0 else (3 if far else 2)

    def changed(self, value: Value, action: int, rng: np.random.Generator) -> Value:
        if self._is_category:
            return self._domain.from_unit((action + 0.5) / self._places)
        low, high = self._STEPS[action]
        at = self._domain.to_unit(value)
        size = self._domain.cardinality
        step = (low + (high - low) * rng.random()) / self._places
        if size is not None:
            # At least to the next value.
            step = max(abs(step), 1.0 / size) * (1 if high > 0 else -1)
        return self._domain.from_unit(min(max(at + step, 0.0), 1.0))


def _anything(problem: Problem, rng: np.random.Generator) -> dict[str, Value]:
    """A value for each free parameter, whether it exists or not."""
    return {p.name: p.domain.from_unit(rng.random()) for p in problem.space.free}
