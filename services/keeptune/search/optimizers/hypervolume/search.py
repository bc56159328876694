"""`hypervolume`: asks where the hypervolume is expected to grow most.

What is suggested for trial `number` follows from the problem, the number and what has been told
and asked by then, so that a history is taken over without being computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.bayesian import process, proposals, targets
from keeptune.search.optimizers.bayesian.encoding import Floats, unseen
from keeptune.search.optimizers.bayesian.evidence import NARROW, WIDE, Prior
from keeptune.search.optimizers.bayesian.feasibility import Limit
from keeptune.search.optimizers.bayesian.visited import Visited
from keeptune.search.optimizers.hypervolume import ALGORITHM
from keeptune.search.optimizers.hypervolume.model import Hyper, Model, believed
from keeptune.search.optimizers.standing import is_usable, order
from keeptune.search.space import Assignment


@dataclass(frozen=True)
class Settings:
    """How much work a suggestion is worth."""

    samples: int = 4
    random: int = 192
    mutants: int = 192
    rounds: int = 3
    survivors: int = 16
    # More results than this make a suggestion slow: the best and a part of the rest are kept.
    observations: int = 200
    # Hyper-parameters are sampled anew for every so many-th part of the results.
    patience: int = 30
    # What is worse in an objective than this quantile of the first results is of no use.
    useful: float = 0.65


# No transform and no prior is best for all tasks, so they take turns.
_TURNS: tuple[tuple[Callable[[Floats], Floats], Prior], ...] = (
    (targets.powered, NARROW),
    (targets.mixed, WIDE),
)
# Size and number of changes of mutations.
_MUTATIONS = ((0.05, 1.0), (0.15, 2.0))
_REFINEMENT = 0.06

# Streams of random numbers beside those of the trials' own numbers and of the start.
_HYPER = 2**41


class HypervolumeSearch:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        self._problem = problem
        self._settings = settings
        self._visited = Visited(problem)
        self._encoding = self._visited.encoding
        self._hypers: dict[tuple[int, int], tuple[Hyper, ...]] = {}

    def ask(self, number: int) -> Suggestion | Nothing:
        rng = seeds.generator(self._problem.seed, number)
        row, why = self._next(rng)
        if row is None:
            return Nothing.LEFT
        values = self._encoding.decode(row)
        self.adopt(number, values)
        return Suggestion(values, ALGORITHM.name, why)

    def adopt(self, number: int, parameters: Assignment) -> None:
        """As if `ask` had suggested these parameters for trial `number`."""
        self._visited.ask(number, parameters)

    def tell(self, result: Result) -> None:
        self._visited.tell(result, learn=result.outcome is Outcome.INFEASIBLE or is_usable(result))

    def _next(self, rng: np.random.Generator) -> tuple[Floats | None, str]:
        if self._visited.at_start:
            return self._visited.opening(rng)
        return self._improve(rng)

    def _improve(self, rng: np.random.Generator) -> tuple[Floats | None, str]:
        encoding, settings = self._encoding, self._settings
        model = self._model(rng)
        rows = np.concatenate(
            [
                proposals.anywhere(encoding, settings.random, rng),
                *(
                    proposals.mutated(
                        encoding,
                        model.parents,
                        settings.mutants // 2,
                        rng,
                        scale=scale,
                        changes=changes,
                    )
                    for scale, changes in _MUTATIONS
                ),
            ]
        )
        rows, scores = self._best_of(model, rows, np.zeros((0, encoding.dimension)), np.zeros(0))
        for _ in range(settings.rounds):
            if not len(rows):
                return self._visited.any_new(rng), "explore: a random point"
            children = proposals.mutated(
                encoding, rows, settings.mutants // 2, rng, scale=_REFINEMENT, changes=1.0
            )
            rows, scores = self._best_of(model, children, rows, scores)
        return rows[0], model.reason(encoding.places(rows[:1]))

    def _best_of(
        self, model: Model, new: Floats, rows: Floats, scores: Floats
    ) -> tuple[Floats, Floats]:
        """The new ones with those whose scores are known, best first."""
        encoding = self._encoding
        new = new[unseen(encoding.keys(new), self._visited.seen.union(encoding.keys(rows)))]
        if len(new):
            rows = np.concatenate([rows, new])
            scores = np.concatenate([scores, model.score(encoding.places(new))])
        best = np.argsort(-scores, kind="stable")[: self._settings.survivors]
        return rows[best], scores[best]

    def _model(self, rng: np.random.Generator) -> Model:
        encoding = self._encoding
        chosen = self._chosen(len(self._visited.results))
        results = [self._visited.results[i] for i in chosen]
        rows = np.array([self._visited.rows[i] for i in chosen])
        measured = np.array([result.outcome is Outcome.MEASURED for result in results])
        places = encoding.places(rows)
        pending = encoding.places(
            np.array([*self._visited.pending.values()]).reshape(-1, rows.shape[1])
        )
        turn = self._visited.asked % len(_TURNS)
        known = [result for result in results if result.outcome is Outcome.MEASURED]
        processes, fronts = believed(
            self._sampled(turn),
            places[measured],
            _goals(known, turn),
            np.array([result.is_feasible for result in known]),
            pending,
            rng,
            limit=self._limit(known, turn),
            noisy=self._problem.noisy,
        )
        ranked = [i for i in order(known) if known[i].is_feasible] or order(known)
        count = max(5, sum(1 for i in ranked if known[i].is_feasible) // 4)
        return Model(
            processes,
            fronts,
            self._limits(places, results, measured),
            rows[measured][ranked[:count]],
        )

    def _limit(self, known: list[Result], turn: int) -> Floats:
        """What is no better than most of the first results in an objective is of no use."""
        if not self._settings.useful:
            return np.full(self._problem.objectives, np.inf)
        first = known[: max(8, self._visited.start)]
        at = len(first)
        return np.array(
            [np.quantile(goals[:at], self._settings.useful) for goals in _goals(known, turn)]
        )

    def _limits(
        self, places: Floats, results: list[Result], measured: np.ndarray
    ) -> tuple[Limit, ...]:
        owner = self._encoding.owner
        rng = seeds.generator(self._problem.seed, _HYPER, len(self._visited.results))
        limits = []
        if not measured.all():
            limits.append(Limit.fit(places, owner, np.where(measured, -1.0, 1.0), rng))
        for i in range(self._problem.constraints):
            broken = np.array([r.broken[i] for r in results if r.outcome is Outcome.MEASURED])
            if (broken > 0).any():
                limits.append(Limit.fit(places[measured], owner, broken, rng))
        return tuple(limits)

    def _sampled(self, turn: int) -> tuple[Hyper, ...]:
        """The hyper-parameters of each objective, from the first so many results."""
        step = 1 + len(self._visited.results) // self._settings.patience
        count = len(self._visited.results) // step * step
        key = (count, turn)
        if key not in self._hypers:
            chosen = [
                i
                for i in self._chosen(count)
                if self._visited.results[i].outcome is Outcome.MEASURED
            ]
            places = self._encoding.places(np.array([self._visited.rows[i] for i in chosen]))
            rng = seeds.generator(self._problem.seed, _HYPER + count, turn)
            found = [
                process.fit(
                    places,
                    self._encoding.owner,
                    goals,
                    rng,
                    samples=self._settings.samples,
                    prior=_TURNS[turn][1],
                )
                for goals in _goals([self._visited.results[i] for i in chosen], turn)
            ]
            self._hypers = {k: v for k, v in self._hypers.items() if k[0] == count}
            self._hypers[key] = tuple(map(Hyper.of, found))
        return self._hypers[key]

    def _chosen(self, count: int) -> list[int]:
        """Of the first so many results those to learn from."""
        limit = self._settings.observations
        if count <= limit:
            return list(range(count))
        kept = set(order(self._visited.results[:count])[: limit // 2])
        rest = [i for i in range(count) if i not in kept]
        rng = seeds.generator(self._problem.seed, _HYPER, count, 1)
        kept.update(rng.choice(rest, size=limit - len(kept), replace=False).tolist())
        return sorted(kept)


def _goals(results: list[Result], turn: int) -> list[Floats]:
    """What each objective's process is of, (n,) each."""
    transform, _ = _TURNS[turn]
    return [transform(column) for column in np.array([r.losses for r in results]).T]
