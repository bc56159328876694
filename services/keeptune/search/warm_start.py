"""What a new study learns from earlier ones, copied when it is created.

What becomes of the earlier studies later, also their end, changes nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from keeptune.runtime.errors import InvalidInput, NotFound
from keeptune.runtime.names import parse_study
from keeptune.search import history, sql_store
from keeptune.search.model import Study
from keeptune.search.optimizers.base import Result
from keeptune.search.optimizers.earlier import Earlier, taken_over

# Read of each earlier study: the best and the latest. Far fewer are kept.
_MOST_READ = 1000


def gathered(connection: Connection, study: Study) -> tuple[list[Earlier], Study]:
    """The results of its earlier studies, and the study, which says so.

    Raises InvalidInput for one that does not exist, or that has nothing to teach.
    """
    earlier: list[Earlier] = []
    for i, name in enumerate(study.warm_start):
        field = f"study.warm_start[{i}]"
        source = parse_study(name, field=field)
        try:
            sql_store.get_progress(connection, source)
        except NotFound:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, which does not exist",
                fix="name existing studies",
            ) from None
        results = history.completed_of(connection, source, study, _MOST_READ)
        found = taken_over(study.space, i, (each for each in results if each.losses))
        if not found:
            lack = _lack(study, results)
            raise InvalidInput(field=field, problem=f"is {name!r}, {lack}", fix=_FIX)
        earlier += found
    if not earlier:
        return earlier, study
    studies = ", ".join(study.warm_start)
    because = f"{study.plan.because}; it learns from {len(earlier)} results of {studies}"
    return earlier, replace(study, plan=replace(study.plan, because=because))


_FIX = "name studies with objectives and parameters of the same names, or none"


def _lack(study: Study, results: Sequence[Result]) -> str:
    """Why nothing can be learned from these results."""
    if not results:
        return "of which no trial has completed"
    objectives = ", ".join(metric.name for metric in study.objectives)
    if not any(result.losses for result in results):
        return f"of which no completed trial has measured {objectives}"
    known = {name for result in results for name in result.parameters}
    free = {parameter.name for parameter in study.space.free}
    if not known & free:
        return f"which has none of the parameters {', '.join(sorted(free))}"
    return "of which no completed trial lies in this space or near it"
