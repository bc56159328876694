"""Who searches: keeptune cold and warm, and Optuna cold and as its users would warm it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result
from keeptune.search.optimizers.earlier import Earlier, taken_over
from keeptune.search.space import Assignment, SearchSpace

Loss = Callable[[Assignment], float]

# As many as a user would enqueue of an earlier study's best.
_ENQUEUED = 5


@dataclass(frozen=True)
class History:
    """A study: its points with their losses, in the order they came."""

    points: tuple[Assignment, ...]
    losses: tuple[float, ...]

    @property
    def results(self) -> list[Result]:
        return [
            Result(i, point, Outcome.MEASURED, (loss,))
            for i, (point, loss) in enumerate(zip(self.points, self.losses, strict=True), 1)
        ]


@dataclass(frozen=True)
class Game:
    space: SearchSpace
    loss: Loss
    seed: int
    trials: int
    histories: Sequence[History] = ()

    @property
    def earlier(self) -> list[Earlier]:
        """As the service takes it over."""
        return [
            each
            for i, history in enumerate(self.histories)
            for each in taken_over(self.space, i, history.results)
        ]


def cold(game: Game) -> History:
    return _keeptune(game, ())


def warm(game: Game) -> History:
    return _keeptune(game, game.earlier)


def _keeptune(game: Game, earlier: Sequence[Earlier]) -> History:
    problem = Problem(game.space, game.seed, trials=game.trials)
    chosen = registry.choose("auto", problem, "algorithm").algorithm
    optimizer = registry.make(chosen, problem, earlier)
    points: list[Assignment] = []
    losses: list[float] = []
    for number in range(1, game.trials + 1):
        answer = optimizer.ask(number)
        if isinstance(answer, Nothing):
            break
        points.append(answer.parameters)
        losses.append(game.loss(answer.parameters))
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (losses[-1],)))
    return History(tuple(points), tuple(losses))


def optuna_cold(game: Game) -> History:
    return _optuna(game, ())


def optuna_enqueued(game: Game) -> History:
    """The best points of the earlier studies come first."""
    share = _ENQUEUED // len(game.histories)
    first: list[Assignment] = []
    for source in range(len(game.histories)):
        ranked = sorted(
            (each for each in game.earlier if each.source == source), key=lambda each: each.losses
        )
        first += [each.parameters for each in ranked[:share]]
    return _optuna(game, first)


def _optuna(game: Game, first: Sequence[Assignment]) -> History:
    from tests.bench.search_quality.adapters import optuna_peer
    from tests.bench.search_quality.peers import Settings

    peer = optuna_peer.make("tpe", Settings(game.space, game.seed, game.trials, 1))
    for point in first:
        peer.study.enqueue_trial(dict(point))
    points: list[Assignment] = []
    losses: list[float] = []
    for _ in range(game.trials):
        (point,) = peer.ask(1)
        points.append(point)
        losses.append(game.loss(point))
        peer.tell([losses[-1]])
    return History(tuple(points), tuple(losses))


PLAYERS: dict[str, Callable[[Game], History]] = {
    "cold": cold,
    "warm": warm,
    "optuna-tpe": optuna_cold,
    "optuna-tpe-enqueued": optuna_enqueued,
}
