"""Points that fill the space evenly: a scrambled Sobol sequence."""

from __future__ import annotations

from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.seeds import generator

ALGORITHM = Algorithm(
    name="quasi-random",
    description="A scrambled Sobol sequence: covers the space more evenly than random points.",
    source=(
        "Sobol, On the distribution of points in a cube, 1967; Owen, Scrambling Sobol' and "
        "Niederreiter-Xing points, 1998, https://doi.org/10.1006/jcom.1998.0487"
    ),
    multi_objective=True,
    constraints=True,
    graphs=True,
)


class QuasiRandomSearch:
    learns = False

    def __init__(self, problem: Problem) -> None:
        # Half of what a server would need to start.
        from scipy.stats import qmc

        self._space = problem.space
        self._names = [parameter.name for parameter in problem.space.free]
        self._sobol = qmc.Sobol(
            max(1, len(self._names)), scramble=True, rng=generator(problem.seed)
        )

    def ask(self, number: int) -> Suggestion:
        point = self._sobol.random(1)[0].tolist()
        units = dict(zip(self._names, point, strict=False))
        return Suggestion(self._space.at(units), ALGORITHM.name, "explore: an even cover")

    def tell(self, result: Result) -> None:
        """Learns nothing."""
