"""`actor-critic`: a policy network learns how to change a good point, a value network judges it.

The state is a point, the action a change of its parameters: a Gaussian step for each number, a
category for each choice. The reward is the improvement, measured in the share of all results that
a result beats. Every pair of results is an experience, as if one had been made of the other, and is
replayed with the rewards of today. The critic learns the value of states by temporal differences
against a target network that follows it slowly; the actor learns the changes of the past, weighted
by the exponential of their advantage, which works off policy and with few data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result
from keeptune.search.optimizers.coordinates import Coordinates, Floats
from keeptune.search.optimizers.evenly_started import EvenlyStarted
from keeptune.search.optimizers.networks import Adam, Network
from keeptune.search.space import Assignment, SearchSpace

ALGORITHM = Algorithm(
    name="actor-critic",
    description=(
        "Reinforcement learning: a policy network over changes of the parameters, with a value "
        "network, experience replay and a target network."
    ),
    source=(
        "Peng et al., Advantage-Weighted Regression, 2019, https://arxiv.org/abs/1910.00177; "
        "replay and target network as in Mnih et al., Human-Level Control through Deep "
        "Reinforcement Learning, Nature 2015"
    ),
    multi_objective=True,
    constraints=True,
)

# Tell the seeds of the networks and of the learning after a result from that of any trial.
_NETWORKS, _LEARNING = 2**42, 2**41
_TRIES = 32
# How much likelier, as a logit, a category is to stay at first; and how many are drawn blindly.
_STAY, _ANY = 2.0, 0.1


@dataclass(frozen=True)
class Settings:
    start: int = 10
    hidden: int = 24
    rate: float = 3e-3
    # Updates after each result, and pairs in each.
    updates: int = 12
    batch: int = 64
    discount: float = 0.3
    # What the target network takes over in each update.
    follow: float = 0.05
    # Of advantages: one so much greater weighs e times as much.
    temperature: float = 0.1
    # Points are changed that are among so many best.
    bases: int = 3
    least_step: float = 0.02
    first_step: float = 0.2


class Changes:
    """Points as a network sees them, and the distribution of changes that its outputs mean.

    Of a number the outputs are the mean and the log deviation of a Gaussian step, of a category the
    logits of all options, on top of a leaning to stay. Only parameters that exist count.
    """

    def __init__(self, space: SearchSpace, first_step: float, least_step: float) -> None:
        self.coordinates = Coordinates(space)
        self._first_step, self._least_step = first_step, least_step
        sizes = self.coordinates.categories
        conditional = [bool(parameter.conditions) for parameter in space.free]
        self._numbers = np.flatnonzero(sizes == 0)
        self._choices = np.flatnonzero(sizes)
        self._conditional = np.flatnonzero(conditional)
        self.inputs = len(self._numbers) + int(sizes.sum()) + len(self._conditional)
        self.outputs = 2 * len(self._numbers) + int(sizes.sum())
        self._means = slice(0, len(self._numbers))
        self._logs = slice(len(self._numbers), 2 * len(self._numbers))
        ends = np.cumsum(sizes[self._choices]) + 2 * len(self._numbers)
        self._logits = [
            slice(int(end - size), int(end))
            for end, size in zip(ends, sizes[self._choices], strict=True)
        ]

    def seen(self, rows: Floats) -> Floats:
        """The inputs (n, inputs) for rows (n, P)."""
        numbers = np.nan_to_num(2.0 * rows[:, self._numbers] - 1.0)
        choices = [
            rows[:, i][:, None] == np.arange(self.coordinates.categories[i]) for i in self._choices
        ]
        exists = ~np.isnan(rows[:, self._conditional])
        return np.concatenate([numbers, *choices, exists], axis=1).astype(float)

    def drawn(self, row: Floats, outputs: Floats, rng: np.random.Generator) -> Floats:
        """A changed row (P,); what did not exist at the row is anywhere."""
        changed = rng.random(len(row))
        at = row[self._numbers]
        steps = outputs[self._means] + self._deviation(outputs) * rng.standard_normal(len(at))
        units = np.abs(at + steps) % 2.0
        reflected = np.where(units > 1.0, 2.0 - units, units)
        changed[self._numbers] = np.where(np.isnan(at), changed[self._numbers], reflected)
        for i, logits in zip(self._choices, self._logits, strict=True):
            odds = _odds(outputs[None, logits], row[None, i])[0]
            odds = (1.0 - _ANY) * odds + _ANY / len(odds)
            changed[i] = rng.choice(len(odds), p=odds / odds.sum())
        return changed

    def slope(self, outputs: Floats, before: Floats, after: Floats) -> Floats:
        """Of the negative log likelihood of each change (n, P to P) in the outputs."""
        slope = np.zeros_like(outputs)
        steps = after[:, self._numbers] - before[:, self._numbers]
        exists = ~np.isnan(steps)
        deviation = self._deviation(outputs)
        score = np.clip(np.where(exists, steps - outputs[:, self._means], 0.0) / deviation, -5, 5)
        slope[:, self._means] = -score / deviation
        slope[:, self._logs] = exists * (1.0 - score**2)
        for i, logits in zip(self._choices, self._logits, strict=True):
            odds = _odds(outputs[:, logits], before[:, i])
            taken = after[:, i][:, None] == np.arange(odds.shape[1])
            both = ~np.isnan(before[:, i]) & ~np.isnan(after[:, i])
            slope[:, logits] = both[:, None] * (odds - taken)
        return slope

    def _deviation(self, outputs: Floats) -> Floats:
        wide = self._first_step * np.exp(np.clip(outputs[..., self._logs], -5.0, 1.0))
        return np.maximum(wide, self._least_step)


def _odds(logits: Floats, current: Floats) -> Floats:
    """The probability (n, options) of each option, given the current ones (n,)."""
    logits = logits + _STAY * (current[:, None] == np.arange(logits.shape[1]))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


class ActorCritic(EvenlyStarted):
    name = ALGORITHM.name

    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        super().__init__(problem, settings.start, least=2)
        self._settings = settings
        self._changes = Changes(problem.space, settings.first_step, settings.least_step)
        rng = seeds.generator(problem.seed, _NETWORKS)
        inputs = self._changes.inputs
        self._actor = Network(inputs, settings.hidden, self._changes.outputs, rng)
        self._critic = Network(inputs, settings.hidden, 1, rng)
        self._target = Network(inputs, settings.hidden, 1, rng)
        self._target.weights = self._critic.weights.copy()
        self._actor_step = Adam(len(self._actor.weights), settings.rate)
        self._critic_step = Adam(len(self._critic.weights), settings.rate)
        self._rows: dict[int, Floats] = {}

    def tell(self, result: Result) -> None:
        if self._trials.tell(result) and len(self._trials.standing.usable) > 1:
            self._learn()

    def _learnt(self, number: int) -> tuple[Assignment, str]:
        bases = self._trials.standing.usable[: self._settings.bases]
        rng = seeds.generator(self._problem.seed, number)
        for _ in range(_TRIES):
            base = bases[int(rng.integers(len(bases)))]
            row = self._row(base)
            outputs = self._actor(self._changes.seen(row[None]))[0]
            parameters = self._changes.coordinates.values(self._changes.drawn(row, outputs, rng))
            if self._trials.is_new(parameters):
                which = f"trial {base.number}" if base.number > 0 else "a known result"
                return parameters, f"exploit: the policy's change of {which}"
        return self._start.at(self._trials, number), "explore: the policy has nothing new"

    def _learn(self) -> None:
        settings, standing = self._settings, self._trials.standing
        rng = seeds.generator(self._problem.seed, _LEARNING, standing.count)
        ranked, usable = standing.ranked, len(standing.usable)
        rows = np.array([self._row(result) for result in ranked])
        places = np.minimum(np.arange(len(ranked)), usable)
        score = 1.0 - places / len(ranked)
        encoded = self._changes.seen(rows)
        for _ in range(settings.updates):
            # Most from the better ones: that is where changes start.
            first = (len(rows) * rng.random(settings.batch) ** 2).astype(int)
            second = (len(rows) * rng.random(settings.batch) ** 1.5).astype(int)
            rewards = score[second] - score[first]
            later = self._target(encoded[second])[:, 0]
            errors = rewards + settings.discount * later - self._critic(encoded[first])[:, 0]
            self._critic.weights += self._critic_step.step(
                self._critic.gradient(encoded[first], -errors[:, None] / len(errors))
            )
            weights = np.exp(np.clip(errors / settings.temperature, -20.0, 3.0))
            weights /= max(weights.sum(), 1e-12)
            outputs = self._actor(encoded[first])
            slope = self._changes.slope(outputs, rows[first], rows[second])
            self._actor.weights += self._actor_step.step(
                self._actor.gradient(encoded[first], slope * weights[:, None])
            )
            self._target.weights += settings.follow * (self._critic.weights - self._target.weights)

    def _row(self, result: Result) -> Floats:
        if result.number not in self._rows:
            self._rows[result.number] = self._changes.coordinates.row(result.parameters)
        return self._rows[result.number]
