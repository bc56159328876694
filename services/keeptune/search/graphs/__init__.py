"""Graphs as values of parameters: architectures and pipelines.

values      what a graph is
rules       whether one lies in its space, and what its space must keep to
growth      trees of typed nodes, counted and drawn uniformly
sampling    graphs drawn by size
drafts      a graph under change
mutation    small changes that keep to the space
crossover   a part of one graph in the place of a part of another
similarity  how like two graphs are, and fingerprints
"""
