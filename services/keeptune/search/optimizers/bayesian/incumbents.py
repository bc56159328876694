"""What is believed of the configurations measured so far, where measurements are noisy.

The lowest of many noisy losses is a lucky draw rather than the best. A process of all losses knows
how noisy they are and what the neighbours say, so that the lowest of its means is the better
choice; and how much one more measurement would better that choice is its knowledge gradient
(Frazier, Powell, Dayanik, The Knowledge-Gradient Policy for Correlated Normal Beliefs, INFORMS
Journal on Computing 21, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keeptune.search.optimizers.base import Result
from keeptune.search.optimizers.bayesian import process, targets
from keeptune.search.optimizers.bayesian.encoding import Encoding, Floats, Ints
from keeptune.search.optimizers.bayesian.evidence import Prior
from keeptune.search.optimizers.bayesian.kernel import matern
from keeptune.search.optimizers.bayesian.process import Process
from keeptune.search.optimizers.standing import is_usable

# What is measured anew each time is expected to differ by a tenth of all there is, or so.
_NOISY = Prior(length=-0.25, length_deviation=1.3, noise=-3.0, noise_deviation=1.5)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_CONTENDERS = 40
_LEADING, _FEWEST = 0.1, 3


@dataclass(frozen=True)
class Incumbents:
    """What is known of the m configurations that are feasible as far as is known.

    `rows` (m, P), `measured` (m,) how often each was, `averages` (m,) what it had on average, and
    `latest` the number of its latest trial. Losses are `middle` + `unit` times the process's.
    """

    encoding: Encoding
    rows: Floats
    measured: Ints
    averages: Floats
    latest: tuple[int, ...]
    process: Process
    middle: float
    unit: float

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        results: Sequence[Result],
        rng: np.random.Generator,
        samples: int,
        pending: Floats | None = None,
    ) -> Incumbents | None:
        """By the first objective; None without a feasible result. `pending` rows (p, P)."""
        usable = [result for result in results if is_usable(result)]
        if not any(result.is_feasible for result in usable):
            return None
        rows = np.array([encoding.encode(result.parameters) for result in usable])
        keys = encoding.keys(rows)
        excluded = {key for key, result in zip(keys, usable, strict=True) if not result.is_feasible}
        places: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            if key not in excluded:
                places.setdefault(key, []).append(i)
        if not places:
            return None
        losses = targets.winsorized(np.array([result.losses[0] for result in usable]))
        middle, unit = float(losses.mean()), float(losses.std()) or 1.0
        fitted = process.fit(
            encoding.places(rows),
            encoding.owner,
            (losses - middle) / unit,
            rng,
            samples=samples,
            prior=_NOISY,
        )
        if pending is not None and len(pending):
            fitted = fitted.believe(encoding.places(pending))
        return cls(
            encoding,
            rows[[found[0] for found in places.values()]],
            np.array([len(found) for found in places.values()]),
            np.array([losses[found].mean() for found in places.values()]),
            tuple(usable[found[-1]].number for found in places.values()),
            fitted,
            middle,
            unit,
        )

    @cached_property
    def _believed(self) -> tuple[Floats, Floats]:
        return self.process.predict(self.encoding.places(self.rows))

    @property
    def means(self) -> Floats:
        """The expected loss of each (m,), in units of the process."""
        return np.asarray(self._believed[0].mean(axis=0))

    @property
    def deviations(self) -> Floats:
        """How unsure that is, (m,), over samples too."""
        means, deviations = self._believed
        return np.asarray(np.sqrt((deviations**2).mean(axis=0) + means.var(axis=0)))

    @property
    def noise(self) -> float:
        """The deviation of one measurement of the same, in the losses' own unit."""
        return self.unit * math.sqrt(float((self.process.noise * self.process.scale).mean()))

    @property
    def best(self) -> int:
        """Which of them is expected to be the best, among the tenth whose own measurements are.

        A process that takes for noise what it cannot explain must not explain a bad one away.
        """
        count = max(_FEWEST, math.ceil(_LEADING * len(self.rows)))
        leading = np.argsort(self.averages, kind="stable")[:count]
        return int(leading[self.means[leading].argmin()])

    def gradient(self, rows: Floats) -> Floats:
        """By how much one measurement at each of the rows (k, P) is expected to better the choice,
        (k,), in units of the process."""
        places = self.encoding.places(rows)
        contenders = np.argsort(self.means, kind="stable")[:_CONTENDERS]
        known = self.encoding.places(self.rows[contenders])
        total = np.zeros(len(rows))
        for s, length in enumerate(self.process.lengths):
            at, of = places / length, known / length
            told = self.process.places / length
            white = matern(at, told) @ self.process.whitening[s].T
            white_known = matern(of, told) @ self.process.whitening[s].T
            means = self._believed[0][s, contenders]
            here = matern(at, told) @ self.process.alpha[s]
            left = np.maximum(1.0 - (white * white).sum(axis=1), 1e-10)
            step = np.sqrt(self.process.scale[s] / (left + self.process.noise[s]))
            moves = (matern(at, of) - white @ white_known.T) * step[:, None]
            # (nodes, k): the least of the contenders, or what was measured itself.
            least = (means + moves * _NODES[:, None, None]).min(axis=2)
            least = np.minimum(least, here + (left * step) * _NODES[:, None])
            total += means.min() - (_WEIGHTS @ least) / _WEIGHTS.sum()
        return np.asarray(total / len(self.process.lengths))
