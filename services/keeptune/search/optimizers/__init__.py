"""Optimisers behind one interface, one file a family.

base            ask and tell, and what they pass
registry        all of them by name
auto            which one suits a space and a budget
random_search   grid   quasi_random   nevergrad (and nevergrad_library, which tames it)
bayesian        tpe (and parzen)   hedged (the one with the other)   regularized_evolution
q_learning      actor_critic (and networks)
plugins         those that other packages bring
rehearsal       an optimiser tried out before a study relies on it
trials          what learning ones remember   standing   results, best first
coordinates     points as rows of numbers
seeds           random generators from a study's seed
"""
