"""Optimisers behind one interface, one file a family.

base            ask and tell, and what they pass
registry        all of them by name
auto            which one suits a space and a budget
random_search   grid   quasi_random   nevergrad (and nevergrad_library, which tames it)
seeds           random generators from a study's seed
"""
