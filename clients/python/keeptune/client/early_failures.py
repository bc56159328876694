"""Stopping a loop of trials whose objective has failed alike from its first trial on.

Such an objective is broken, not unlucky: the rest of the budget would go the same way.
"""

from __future__ import annotations

import logging
import threading

from keeptune.runtime.errors import FailedPrecondition

log = logging.getLogger("keeptune.client")

GIVE_UP_AFTER = 5


class EarlyFailures:
    """What the workers of one loop have seen; may be told from several threads.

    `limit` equal failures (of one type, from one line) before anything else are too many; 0 = no
    number of them is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._places: set[tuple[type[Exception], str, int]] = set()
        self._count = 0
        self._settled = limit <= 0

    def succeeded(self) -> None:
        """The objective came to an end: it is not broken altogether."""
        self._settled = True

    def failed(self, trial: str, error: Exception) -> None:
        """Logs the failure of a trial, with the traceback where it says something new."""
        place = _place(error)
        with self._lock:
            new = place not in self._places
            self._places.add(place)
            self._count += 1
        if new:
            log.warning("%s failed", trial, exc_info=error)
        else:
            log.warning("%s failed again: %s: %s", trial, type(error).__name__, error)

    def check(self, error: Exception) -> None:
        """Raises FailedPrecondition, caused by `error`, when there were too many."""
        if self._settled or len(self._places) > 1 or self._count < self._limit:
            return
        raise FailedPrecondition(
            f"the objective has failed {self._count} times alike, from the first trial on: "
            f"{type(error).__name__}: {error}",
            fix="mend it and call optimize() again for the rest of the budget; "
            "give_up_after=0 goes on regardless",
            reason="OBJECTIVE_BROKEN",
        ) from error


def _place(error: Exception) -> tuple[type[Exception], str, int]:
    """Where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error), "", 0
    return type(error), trace.tb_frame.f_code.co_filename, trace.tb_lineno
