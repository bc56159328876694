"""Every point of the space once, the last parameter changing fastest."""

from __future__ import annotations

from keeptune.search.optimizers.base import Algorithm, Nothing, Problem, Result, Suggestion

ALGORITHM = Algorithm(
    name="grid",
    description=(
        "Every point once; of a continuous parameter as many evenly spaced values as the budget "
        "of trials allows. Ends when all were tried."
    ),
    source="Fisher, The Design of Experiments, 1935 (full factorial design)",
    multi_objective=True,
    constraints=True,
)


class GridSearch:
    learns = False

    def __init__(self, problem: Problem) -> None:
        levels = problem.space.grid_levels(problem.trials or 1)
        self._points = problem.space.grid(levels)

    def ask(self, number: int) -> Suggestion | Nothing:
        point = next(self._points, None)
        if point is None:
            return Nothing.LEFT
        return Suggestion(point, ALGORITHM.name, "explore: the next point of the grid")

    def tell(self, result: Result) -> None:
        """Learns nothing."""
