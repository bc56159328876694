"""How much the Pareto set of a study attains, in the metrics' own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.runtime.errors import InvalidInput
from keeptune.search.model import Study
from keeptune.search.pareto import Front, hypervolume, reference_point

# Each objective beyond the second multiplies the work by the size of the set.
_MOST_WORK = 3000


@dataclass(frozen=True)
class Extent:
    """`volume` up to `reference`; None where it would take too long."""

    reference: tuple[float, ...]
    volume: float | None


def of(front: Front, study: Study, wanted: Sequence[float]) -> Extent | None:
    """None where there is one objective, or no trial.

    Raises InvalidInput for a wanted reference point that does not fit the objectives.
    """
    objectives = study.objectives
    if wanted and len(wanted) != len(objectives):
        names = ", ".join(metric.name for metric in objectives)
        raise InvalidInput(
            field="reference_point",
            problem=f"has {len(wanted)} values for {len(objectives)} objectives",
            fix=f"give one of each: {names}",
        )
    losses = front.losses
    if len(objectives) == 1 or not len(losses):
        return None
    signs = np.array([metric.loss(1.0) for metric in objectives])
    reference = signs * np.array(wanted) if wanted else reference_point(losses)
    at = tuple((signs * reference).tolist())
    if len(losses) ** (len(objectives) - 2) > _MOST_WORK:
        return Extent(at, None)
    return Extent(at, hypervolume(losses, reference))
