"""Bayesian optimisation for small budgets: a Gaussian process, its hyper-parameters integrated out.

encoding    points as rows of numbers, and where they lie for the process
process     the Gaussian process: hyper-parameters sampled, posterior mean and deviation
targets     losses made fit for it
proposals   where to look: the start, random points, mutations of the best
search      ask and tell
"""

from keeptune.search.optimizers.base import Adopting, Algorithm, Problem

ALGORITHM = Algorithm(
    name="bayesian",
    description=(
        "A Gaussian process with sampled hyper-parameters and expected improvement: makes the most "
        "of few, costly trials."
    ),
    source="Snoek et al., Practical Bayesian Optimization of Machine Learning Algorithms, 2012",
    multi_objective=True,
    constraints=True,
)


def make(problem: Problem) -> Adopting:
    # What it needs of scipy takes a while to load.
    from keeptune.search.optimizers.bayesian.search import BayesianSearch

    return BayesianSearch(problem)
