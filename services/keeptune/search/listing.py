"""Lists of a study's trials: filtered, ordered and paged by the database."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from sqlalchemy import Connection, select

from keeptune.runtime import filters, paging
from keeptune.runtime.fields import Field, Kind
from keeptune.search import sql_store
from keeptune.search.model import Trial
from keeptune.search.tables import final_metrics, trials

_METRIC = re.compile(r"metrics\.([A-Za-z_][A-Za-z0-9_./-]{0,126})")
_FIELDS = {
    "state": Field(trials.c.state, Kind.TEXT),
    "source": Field(trials.c.source, Kind.TEXT),
    "create_time": Field(trials.c.create_time, Kind.TIME),
    "end_time": Field(trials.c.end_time, Kind.TIME, nullable=True),
}
_NUMBER = Field(trials.c.number, Kind.NUMBER)
_KNOWN = ", ".join((*_FIELDS, "metrics.<name>"))


def list_trials(
    connection: Connection,
    study: str,
    *,
    filter_by: str,
    order_by: str,
    page_size: int,
    page_token: str,
) -> tuple[Sequence[Trial], str]:
    """One page and the token of the next; by default in the order of their numbers.

    Raises NotFound for the study, InvalidInput for a wrong filter, order or token.
    """
    sql_store.get_progress(connection, study)
    query = select(trials).where(
        trials.c.study == study, filters.where(filter_by, _resolve, known=_KNOWN)
    )
    keys = paging.order(order_by, _resolve, known=_KNOWN) if order_by else []
    rows, token = paging.fetch_page(
        connection,
        query,
        [*keys, paging.Order(_NUMBER)],
        size=page_size,
        token=page_token,
        scope=json.dumps(["trials", study, filter_by, order_by]),
    )
    return [sql_store.to_trial(row) for row in rows], token


def _resolve(name: str) -> Field | None:
    found = _METRIC.fullmatch(name)
    if found is None:
        return _FIELDS.get(name)
    value = (
        select(final_metrics.c.value)
        .where(
            final_metrics.c.study == trials.c.study,
            final_metrics.c.trial == trials.c.number,
            final_metrics.c.name == found[1],
        )
        .correlate(trials)
        .scalar_subquery()
    )
    return Field(value, Kind.NUMBER, nullable=True)
