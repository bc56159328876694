"""`bayesian`: asks where the expected improvement is greatest, by the process of `process`.

What is suggested for trial `number` follows from the problem, the number and what has been told
and asked by then, so that a history is taken over without being computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import (
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.bayesian import ALGORITHM, process, proposals, targets
from keeptune.search.optimizers.bayesian.encoding import Floats, unseen
from keeptune.search.optimizers.bayesian.evidence import NARROW, WIDE, Prior
from keeptune.search.optimizers.bayesian.feasibility import Limit
from keeptune.search.optimizers.bayesian.improvement import log_expected_improvement
from keeptune.search.optimizers.bayesian.process import Process
from keeptune.search.optimizers.bayesian.visited import Visited
from keeptune.search.space import Assignment


@dataclass(frozen=True)
class Settings:
    """How much work a suggestion is worth."""

    samples: int = 6
    random: int = 256
    mutants: int = 256
    rounds: int = 3
    survivors: int = 24
    # More observations than this make a suggestion slow: the best and the latest are kept.
    observations: int = 250
    # Every so many suggestions stay near the best.
    local_every: int = 4


# Size and number of changes of mutations: near the best, or anywhere.
_NEAR = ((0.05, 1.0), (0.02, 2.0))
_WIDE = ((0.1, 1.0), (0.2, 2.0))

Turns = tuple[tuple[Callable[[Floats], Floats], Prior], ...]

# No transform and no prior is best for all tasks, so they take turns. While there are few results,
# what is near the best must stand out from the rest.
_FIRST: Turns = (
    (targets.far_regret, NARROW),
    (targets.regret, WIDE),
    (targets.near_regret, NARROW),
    (targets.far_regret, WIDE),
    (targets.regret, NARROW),
    (targets.near_regret, WIDE),
)
_THEN: Turns = (
    (targets.ranked, WIDE),
    (targets.powered, NARROW),
    (targets.mixed, WIDE),
    (targets.ranked, NARROW),
    (targets.powered, WIDE),
    (targets.mixed, NARROW),
)
_THEN_FROM = 20

# Streams of random numbers beside those of the trials' own numbers and of the start.
_HYPER = 2**41


class BayesianSearch:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        self._problem = problem
        self._settings = settings
        self._visited = Visited(problem)
        self._encoding = self._visited.encoding
        self._fitted: tuple[int, int, _Model] | None = None

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
        self._visited.tell(result, learn=result.outcome is not Outcome.FAILED)

    def _next(self, rng: np.random.Generator) -> tuple[Floats | None, str]:
        if self._visited.at_start:
            return self._visited.opening(rng)
        return self._improve(rng)

    def _improve(self, rng: np.random.Generator) -> tuple[Floats | None, str]:
        encoding, settings = self._encoding, self._settings
        model = self._model()
        if self._visited.pending:
            model = model.believe(encoding.places(np.array(list(self._visited.pending.values()))))
        local = self._visited.asked % settings.local_every == settings.local_every - 1
        parents = model.parents
        mutants = [
            proposals.mutated(
                encoding, parents, settings.mutants // 2, rng, scale=scale, changes=changes
            )
            for scale, changes in (_NEAR if local else _WIDE)
        ]
        rows = np.concatenate(
            mutants if local else [proposals.anywhere(encoding, settings.random, rng), *mutants]
        )
        rows, scores = self._scored(model, rows, None)
        for _ in range(settings.rounds):
            if not len(rows):
                break
            children = proposals.mutated(
                encoding,
                rows[: settings.survivors],
                settings.mutants // 2,
                rng,
                scale=0.03 if local else 0.08,
                changes=1.0,
            )
            rows, scores = self._scored(model, children, (rows, scores))
        if not len(rows):
            return self._visited.any_new(rng), "explore: a random point"
        return rows[0], model.reason(encoding.places(rows[:1]), local=local)

    def _scored(
        self, model: _Model, rows: Floats, known: tuple[Floats, Floats] | None
    ) -> tuple[Floats, Floats]:
        """The new ones with those known, best first."""
        encoding = self._encoding
        rows = rows[unseen(encoding.keys(rows), self._visited.seen)]
        scores = model.score(encoding.places(rows)) if len(rows) else np.zeros(0)
        if known is not None:
            rows = np.concatenate([known[0], rows])
            scores = np.concatenate([known[1], scores])
            first = unseen(encoding.keys(rows), set())
            rows, scores = rows[first], scores[first]
        order = np.argsort(-scores, kind="stable")[: self._settings.survivors]
        return rows[order], scores[order]

    def _model(self) -> _Model:
        """Of what has been told; the same for all trials asked until more is told."""
        turn = self._visited.asked % len(_FIRST)
        key = (len(self._visited.results), turn)
        if self._fitted is None or self._fitted[:2] != key:
            rng = seeds.generator(self._problem.seed, _HYPER + len(self._visited.results), turn)
            self._fitted = (*key, self._fit(rng, turn))
        return self._fitted[2]

    def _fit(self, rng: np.random.Generator, turn: int) -> _Model:
        chosen = self._chosen(rng)
        rows = np.array([self._visited.rows[i] for i in chosen])
        results = [self._visited.results[i] for i in chosen]
        places = self._encoding.places(rows)
        owner = self._encoding.owner
        measured = np.array([result.outcome is Outcome.MEASURED for result in results])
        feasible = np.array([result.is_feasible for result in results])
        losses = _scalarized(
            np.array([r.losses for r in results if r.outcome is Outcome.MEASURED]), rng
        )
        # Several objectives are one loss with new weights each time: none of its bests stands out.
        early = len(results) < _THEN_FROM and self._problem.objectives == 1
        transform, prior = (_FIRST if early else _THEN)[turn]
        goals = transform(losses)
        objective = process.fit(
            places[measured],
            owner,
            goals,
            rng,
            samples=self._settings.samples,
            prior=prior,
        )
        limits = []
        if not measured.all():
            broken = np.where(measured, -1.0, 1.0)
            limits.append(Limit.fit(places, owner, broken, rng))
        for i in range(self._problem.constraints):
            broken = np.array([r.broken[i] for r in results if r.outcome is Outcome.MEASURED])
            if (broken > 0).any():
                limits.append(Limit.fit(places[measured], owner, broken, rng))
        means = objective.predict(places[measured])[0].mean(0)
        good = feasible[measured]
        # While nothing is feasible, what is nearest to it leads.
        off = [sum(max(by, 0.0) for by in r.broken) for r in results if r.losses]
        order = np.lexsort((means, ~good if good.any() else np.array(off)))
        best = order[0] if good.any() else None
        return _Model(
            objective,
            tuple(limits),
            parents=rows[measured][order[:5]],
            best=None if best is None else objective.predict(places[measured][[best]])[0][:, 0],
        )

    def _chosen(self, rng: np.random.Generator) -> list[int]:
        count = len(self._visited.results)
        limit = self._settings.observations
        if count <= limit:
            return list(range(count))
        by_loss = sorted(
            range(count),
            key=lambda i: (
                not self._visited.results[i].is_feasible,
                self._visited.results[i].losses[0] if self._visited.results[i].losses else math.inf,
            ),
        )
        kept = set(by_loss[: limit // 2])
        rest = [i for i in range(count) if i not in kept]
        kept.update(rng.choice(rest, size=limit - len(kept), replace=False).tolist())
        return sorted(kept)


@dataclass(frozen=True)
class _Model:
    """`parents` (k, P) are good rows; `best` (S,) the value to improve on, None while none is
    feasible."""

    objective: Process
    limits: tuple[Limit, ...]
    parents: Floats
    best: Floats | None

    def believe(self, places: Floats) -> _Model:
        return _Model(self.objective.believe(places), self.limits, self.parents, self.best)

    def score(self, places: Floats) -> Floats:
        """The logarithm of the expected improvement, weighed by feasibility, (m,)."""
        means, deviations = self.objective.predict(places)
        score = np.zeros(len(places))
        if self.best is not None:
            gains = log_expected_improvement(means, deviations, self.best[:, None])
            score = special.logsumexp(gains, axis=0) - math.log(len(gains))
        for limit in self.limits:
            score = score + limit.log_chance(places)
        return np.asarray(score)

    def reason(self, places: Floats, *, local: bool) -> str:
        if self.best is None:
            return "explore: where the constraints probably hold"
        means, deviations = self.objective.predict(places)
        gain = float((self.best - means[:, 0]).mean())
        doubt = float(deviations.mean())
        where = " near the best" if local else ""
        if gain > 0:
            return f"exploit{where}: expected to beat the best by {gain / doubt:.2g} deviations"
        return f"explore{where}: expected {-gain / doubt:.2g} deviations behind the best"


def _scalarized(losses: Floats, rng: np.random.Generator) -> Floats:
    """One loss of several: augmented Chebyshev with random weights.

    Knowles, ParEGO, IEEE Transactions on Evolutionary Computation 2006, section III.
    """
    if losses.shape[1] == 1:
        return np.asarray(losses[:, 0])
    spread = np.ptp(losses, axis=0)
    unit = (losses - losses.min(0)) / np.where(spread > 0, spread, 1.0)
    weights = rng.dirichlet(np.ones(losses.shape[1]))
    weighted = unit * weights
    return np.asarray(weighted.max(1) + 0.05 * weighted.sum(1))
