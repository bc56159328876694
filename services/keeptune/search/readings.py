"""What insight reads of a study: results in the order in which they came."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, and_, select

from keeptune.search import assignments
from keeptune.search.model import Progress, TrialState
from keeptune.search.space import Assignment
from keeptune.search.tables import final_metrics, trials

# Parameters as JSON, and a value.
Row: TypeAlias = tuple[str, float]

_its_value = and_(final_metrics.c.study == trials.c.study, final_metrics.c.trial == trials.c.number)


@dataclass(frozen=True)
class Reading:
    """A completed trial that has the metric."""

    parameters: Assignment
    value: float


@dataclass(frozen=True)
class Ending:
    """A trial that has ended, and the final values of it that were asked for."""

    number: int
    completed: bool
    metrics: dict[str, float]


def completed_with(
    connection: Connection, metric: str, *, most: int, progress: Progress
) -> list[Row]:
    """Completed trials that have the metric; of more than `most` about so many, evenly spread."""
    among = max(most, progress.completed)
    query = (
        select(trials.c.parameters, final_metrics.c.value)
        .join(final_metrics, _its_value)
        .where(
            trials.c.study == progress.study,
            trials.c.state == TrialState.COMPLETED.value,
            trials.c.tell_sequence <= progress.told,
            trials.c.tell_sequence * most % among < most,
            final_metrics.c.name == metric,
        )
        .order_by(trials.c.tell_sequence)
    )
    return [(row.parameters, row.value) for row in connection.execute(query)]


def decode(rows: Sequence[Row]) -> list[Reading]:
    return [Reading(assignments.decode(parameters), value) for parameters, value in rows]


def endings(
    connection: Connection, study: str, metrics: Collection[str], *, after: int, until: int
) -> list[Ending]:
    """The results after the first `after`, up to the one in place `until`."""
    query = (
        select(
            trials.c.tell_sequence,
            trials.c.number,
            trials.c.state,
            final_metrics.c.name,
            final_metrics.c.value,
        )
        .outerjoin(final_metrics, and_(_its_value, final_metrics.c.name.in_(metrics)))
        .where(
            trials.c.study == study,
            trials.c.tell_sequence > after,
            trials.c.tell_sequence <= until,
        )
        .order_by(trials.c.tell_sequence)
    )
    found: dict[int, Ending] = {}
    for row in connection.execute(query):
        completed = row.state == TrialState.COMPLETED.value
        ending = found.setdefault(row.tell_sequence, Ending(row.number, completed, {}))
        if row.name is not None:
            ending.metrics[row.name] = row.value
    return list(found.values())
