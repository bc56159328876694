"""`neat`: graphs that begin small and grow, in species that shelter what is new.

Genes are matched by marks (see `graphs.genes`): a child of two has the structure of the better one
and the parameters of either where their nodes match. A population of species that share their
fitness goes on trial by trial, as in real-time NEAT (Stanley, Bryant, Miikkulainen, 2005): after
each result the one that is worst for its species' size leaves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from keeptune.search import mutations
from keeptune.search.domains import Value
from keeptune.search.graphs import genes, mutation, rules, sampling
from keeptune.search.graphs.drafts import Draft, settings_of
from keeptune.search.graphs.genes import Marks
from keeptune.search.graphs.values import SOURCE, Graph
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.standing import is_usable, order
from keeptune.search.optimizers.trials import Start, Trials
from keeptune.search.space import Assignment, GraphSpace, SearchSpace

ALGORITHM = Algorithm(
    name="neat",
    description=(
        "NeuroEvolution of Augmenting Topologies: graphs begin small and grow; species shelter new "
        "structures, and parents are crossed gene by gene. For graph parameters."
    ),
    source=(
        "Stanley and Miikkulainen, Evolving Neural Networks through Augmenting Topologies, "
        "Evolutionary Computation 10(2), 2002, https://doi.org/10.1162/106365602320169811"
    ),
    multi_objective=True,
    constraints=True,
    graphs=True,
)

_ASSUMED_TRIALS = 100
_TRIES = 32
_CHANGES = (
    *(mutation.insert,) * 4,
    *(mutation.join,) * 2,
    mutation.replace,
    mutation.replace,
    mutation.reroute,
    mutation.remove,
    mutation.cut,
)


@dataclass(frozen=True)
class Settings:
    """`population` None = by the number of trials planned; `species` is how many are aimed at."""

    population: int | None = None
    species: int = 3
    crossed: float = 0.3
    between_species: float = 0.1
    parameter_weight: float = 0.5
    # How much more often a species has children for a better mean rank.
    pressure: float = 2.0
    # The part of a species, best first, that has children.
    parents: float = 0.4


@dataclass(frozen=True)
class _Genome:
    """A point, and the marks of its graphs by their names."""

    parameters: Assignment
    marks: dict[str, Marks]


@dataclass(frozen=True)
class _Member:
    genome: _Genome
    result: Result
    species: int


class Neat:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        planned = problem.trials or _ASSUMED_TRIALS
        self._problem = problem
        self._space = problem.space
        self._plain = _plain_space(problem.space)
        self._settings = settings
        self._size = settings.population or min(max(planned // 12, 7), 60)
        self._trials = Trials(problem.space)
        self._start = Start(problem, self._size)
        self._genomes: dict[int, _Genome] = {}
        self._population: list[_Member] = []
        # Of each species the first member; the order is that of their appearance.
        self._founders: dict[int, _Genome] = {}
        self._threshold = 0.5

    def ask(self, number: int) -> Suggestion:
        known = self._trials.standing.count + len(self._trials.pending)
        if not self._population or known < self._size:
            genome, because = self._first(number), "explore: a small graph to grow from"
        else:
            genome, because = self._child(number)
        self._genomes[number] = genome
        self._trials.ask(number, genome.parameters)
        return Suggestion(genome.parameters, ALGORITHM.name, because)

    def tell(self, result: Result) -> None:
        self._trials.tell(result)
        genome = self._genomes.pop(result.number, None)
        if not is_usable(result):
            return
        if genome is None or genome.parameters != result.parameters:
            genome = self._without_history(result.parameters)
        species = self._species_of(genome)
        self._population.append(_Member(genome, result, species))
        if len(self._population) > self._size:
            self._thin()

    def _first(self, number: int) -> _Genome:
        """Ordinary parameters evenly spread, graphs among the smaller half."""
        parameters = dict(self._start.at(self._trials, number))
        rng = seeds.generator(self._problem.seed, number)
        for name, graph in _graphs(self._space, parameters):
            sizes = graph.trees.sizes
            smaller = sizes[: max(1, (len(sizes) + 1) // 2)]
            parameters[name] = sampling.sample(graph, rng, smaller[rng.integers(len(smaller))])
        return self._without_history(parameters)

    def _without_history(self, parameters: Assignment) -> _Genome:
        graphs = {name: parameters[name] for name, _ in _graphs(self._space, parameters)}
        return _Genome(
            parameters,
            {n: genes.first_marks(g) for n, g in graphs.items() if isinstance(g, Graph)},
        )

    def _child(self, number: int) -> tuple[_Genome, str]:
        rng = seeds.generator(self._problem.seed, number)
        one = self._parent(rng, None)
        strange = rng.random() < self._settings.between_species
        other = self._parent(rng, None if strange else one.species)
        if other is one or rng.random() >= self._settings.crossed:
            genome, because = one.genome, f"exploit: a change of {_named(one)}"
        else:
            ranked = [(one, other)[i] for i in order([one.result, other.result])]
            genome = self._crossed(ranked[0].genome, ranked[1].genome, rng)
            because = f"exploit: a child of {_named(one)} and {_named(other)}"
        child = self._mutated(genome, rng)
        for _ in range(_TRIES):
            if self._trials.is_new(child.parameters):
                break
            child = self._mutated(child, rng)
        return child, because

    def _parent(self, rng: np.random.Generator, species: int | None) -> _Member:
        """Of the species; None = of one drawn by the mean rank of its members."""
        ranks = self._fitness()
        if species is None:
            names = list(dict.fromkeys(member.species for member in self._population))
            means = [
                np.mean([f for f, m in zip(ranks, self._population, strict=True) if m.species == s])
                for s in names
            ]
            shares = np.array(means) ** self._settings.pressure
            species = names[rng.choice(len(names), p=shares / shares.sum())]
        own = [i for i, member in enumerate(self._population) if member.species == species]
        own.sort(key=lambda i: -ranks[i])
        own = own[: max(1, round(len(own) * self._settings.parents))]
        return self._population[own[rng.integers(len(own))]]

    def _fitness(self) -> list[float]:
        """From 1, the best of the population, to almost 0."""
        count = len(self._population)
        fitness = [0.0] * count
        for rank, i in enumerate(order([member.result for member in self._population])):
            fitness[i] = (count - rank) / count
        return fitness

    def _crossed(self, better: _Genome, other: _Genome, rng: np.random.Generator) -> _Genome:
        choices: dict[str, Value] = {
            name: other.parameters[name] if self._swaps(name, other, rng) else value
            for name, value in better.parameters.items()
        }
        for name, space in _graphs(self._space, better.parameters):
            mine, theirs = better.parameters[name], other.parameters.get(name)
            if isinstance(mine, Graph) and isinstance(theirs, Graph):
                pairs = genes.matches(better.marks[name], other.marks[name])
                choices[name] = genes.mixed(space, mine, theirs, pairs, rng)
        return _Genome(self._space.assign(choices), better.marks)

    def _swaps(self, name: str, other: _Genome, rng: np.random.Generator) -> bool:
        """Whether an ordinary parameter comes from the other parent."""
        is_graph = name in self._space.graphs
        return not is_graph and name in other.parameters and rng.random() < 0.5

    def _mutated(self, genome: _Genome, rng: np.random.Generator) -> _Genome:
        """One change, of an ordinary parameter or of a graph, each by how much there is of it."""
        before = genome.parameters
        graphs = _graphs(self._space, before)
        plain = [p for p in self._space.free if p.name in before and p.name not in genome.marks]
        weights = [1 + len(genome.marks[name]) for name, _ in graphs]
        marks = dict(genome.marks)
        place = rng.random() * (len(plain) + sum(weights))
        if not graphs or place < len(plain):
            if not plain:
                return genome
            chosen = plain[rng.integers(len(plain))]
            value = mutations.changed(chosen.domain, before[chosen.name], rng)
            parameters = mutations.replaced(self._space, before, {chosen.name: value}, rng)
        else:
            name, space = graphs[rng.choice(len(graphs), p=np.array(weights) / sum(weights))]
            graph = before[name]
            assert isinstance(graph, Graph)
            grown, marks[name] = _changed(space, graph, marks[name], rng)
            parameters = mutations.replaced(self._space, before, {name: grown}, rng)
        # A graph that begins to exist has no history.
        return _Genome(
            parameters,
            {
                name: marks.get(name, mark)
                for name, mark in self._without_history(parameters).marks.items()
            },
        )

    def _species_of(self, genome: _Genome) -> int:
        """The first whose founder is near enough; else a new one."""
        for species, founder in self._founders.items():
            if self._distance(genome, founder) < self._threshold:
                return species
        species = max(self._founders, default=0) + 1
        self._founders[species] = genome
        return species

    def _distance(self, one: _Genome, other: _Genome) -> float:
        weight = self._settings.parameter_weight
        total = 0.0
        for name, space in _graphs(self._space, one.parameters):
            mine, theirs = one.parameters[name], other.parameters.get(name)
            if isinstance(mine, Graph) and isinstance(theirs, Graph):
                pair = (mine, one.marks[name]), (theirs, other.marks[name])
                total += genes.incompatibility(space, *pair, weight)
            else:
                total += 1.0
        return total + weight * genes.unlikeness(
            self._plain, settings_of(one.parameters), settings_of(other.parameters)
        )

    def _thin(self) -> None:
        """One leaves: the worst for the size of its species, the older of equals."""
        fitness = self._fitness()
        sizes = Counter(member.species for member in self._population)
        shared = [f / sizes[m.species] for f, m in zip(fitness, self._population, strict=True)]
        # The best stays, however large its species.
        best = fitness.index(max(fitness))
        worst = min((i for i in range(len(shared)) if i != best), key=lambda i: shared[i])
        del self._population[worst]
        alive = {member.species for member in self._population}
        self._founders = {s: g for s, g in self._founders.items() if s in alive}
        self._threshold *= 1.05 if len(alive) > self._settings.species else 0.95
        self._threshold = min(max(self._threshold, 0.05), 2.0)


def _changed(
    space: GraphSpace, graph: Graph, marks: Marks, rng: np.random.Generator
) -> tuple[Graph, Marks]:
    """One change away; any other graph where none is found that keeps to the space."""
    kinds = [node.kind for node in graph.nodes]
    for _ in range(_TRIES):
        draft = Draft.of(space, graph)
        if not mutation.change(draft, rng, mutations.mutated, _CHANGES) or draft.output == SOURCE:
            continue
        found = draft.graph()
        if found != graph and rules.problem_with(space, found) is None:
            return found, genes.later_marks(draft, kinds, marks)
    found = sampling.sample(space, rng)
    return found, genes.first_marks(found)


def _graphs(space: SearchSpace, parameters: Assignment) -> list[tuple[str, GraphSpace]]:
    """The graphs among the parameters, by name."""
    return [
        (p.name, p.domain)
        for p in space.parameters
        if isinstance(p.domain, GraphSpace) and p.name in parameters
    ]


def _plain_space(space: SearchSpace) -> SearchSpace:
    return SearchSpace(tuple(p for p in space.parameters if p.name not in space.graphs))


def _named(member: _Member) -> str:
    number = member.result.number
    return f"{number}" if number > 0 else "a known result"
