"""How much the Pareto set of a study attains, in the metrics' own values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keeptune.runtime.errors import InvalidInput
from keeptune.search.model import Study
from keeptune.search.pareto import Front, hypervolume, reference_point

# Each objective beyond the second multiplies the work by the size of the set.
_MOST_WORK = 3000


def of(front: Front, study: Study, wanted: Sequence[float]) -> tuple[list[float], float | None]:
    """The reference point and the hypervolume up to it; none of either where it says nothing.

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
        return list(wanted), None
    signs = np.array([metric.loss(1.0) for metric in objectives])
    reference = signs * np.array(wanted) if wanted else reference_point(losses)
    at = (signs * reference).tolist()
    if len(losses) ** (len(objectives) - 2) > _MOST_WORK:
        return at, None
    return at, hypervolume(losses, reference)
