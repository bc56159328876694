"""Several objectives: asks where the expected gain in hypervolume is greatest.

boxes    what a front leaves to be won, and how much of it is expected of a point
model    a Gaussian process an objective, and what they say of a point
search   ask and tell
"""

from keeptune.search.optimizers.base import Adopting, Algorithm, Problem

ALGORITHM = Algorithm(
    name="hypervolume",
    description=(
        "A Gaussian process an objective and the expected gain in hypervolume: the whole front of "
        "two or three objectives from few, costly trials; more are scalarized at random."
    ),
    source=(
        "Daulton, Balandat, Bakshy, Parallel Bayesian Optimization of Multiple Noisy Objectives "
        "with Expected Hypervolume Improvement, NeurIPS 2021, https://arxiv.org/abs/2105.08195"
    ),
    multi_objective=True,
    constraints=True,
)

_MOST_OBJECTIVES = 3


def make(problem: Problem) -> Adopting:
    # What they need of scipy takes a while to load.
    if 1 < problem.objectives <= _MOST_OBJECTIVES:
        from keeptune.search.optimizers.hypervolume.search import HypervolumeSearch

        return HypervolumeSearch(problem)
    from keeptune.search.optimizers.bayesian.search import BayesianSearch

    return BayesianSearch(problem)
