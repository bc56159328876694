"""Joins true outcomes, whenever they become known, with the requests that were sampled.

Bounded in requests, bytes and time: what is older or too much is forgotten, the oldest first. An
outcome may also come before its sample, which takes a moment through the socket, so outcomes that
match nothing wait for a short while. Pure: times come with the calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keeptune.agent.tensors import Array

MAX_REQUESTS = 20_000
MAX_BYTES = 16 * 2**20
# What a request weighs beside its tensors, as measured.
_OVERHEAD = 1200
MAX_AGE_SECONDS = 3600.0
EARLY_SECONDS = 30.0
MAX_EARLY = 10_000

Truth = str | float


@dataclass(frozen=True, eq=False)
class Remembered:
    """A sampled request, for as long as its outcomes may come.

    `predictions` has one a row: the label, or the number for regression. `inputs` are arrays with
    rows first, empty when samples are not captured. `time` in unix seconds.
    """

    request_id: str
    version: int
    time: float
    predictions: Sequence[Truth]
    inputs: Mapping[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return _OVERHEAD + sum(array.nbytes for array in self.inputs.values())


@dataclass(frozen=True)
class Outcome:
    request_id: str
    row: int
    truth: Truth


@dataclass(frozen=True, eq=False)
class Joined:
    """One row of a sampled request with its true outcome."""

    request: Remembered
    row: int
    truth: Truth

    @property
    def right(self) -> bool:
        """Whether the predicted label is the true one. Labels are compared as text."""
        return str(self.request.predictions[self.row]) == str(self.truth)


@dataclass(frozen=True)
class JoinResult:
    joined: tuple[Joined, ...] = ()
    unmatched: int = 0
    repeated: int = 0


class OutcomeJoiner:
    """The sampled requests of one model and the outcomes that are known of them."""

    def __init__(
        self,
        *,
        max_requests: int = MAX_REQUESTS,
        max_bytes: int = MAX_BYTES,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_age = max_age_seconds
        self._requests: OrderedDict[str, Remembered] = OrderedDict()
        self._known: dict[str, set[int]] = {}
        # Requests of which all is known: only their ids, to tell what is repeated.
        self._settled: OrderedDict[str, int] = OrderedDict()
        self._early: OrderedDict[tuple[str, int], tuple[float, Truth]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def remember(self, request: Remembered, now: float) -> tuple[Joined, ...]:
        """Keeps a sampled request; returns what its early outcomes make of it.

        Requests without an id cannot be joined. One that uses an id again replaces the first.
        """
        if not request.request_id:
            return ()
        self._forget(request.request_id)
        self._settled.pop(request.request_id, None)
        self._requests[request.request_id] = request
        self._bytes += request.size
        self._forget_old(now)
        early = [
            Outcome(request.request_id, row, self._early.pop((request.request_id, row))[1])
            for row in range(len(request.predictions))
            if (request.request_id, row) in self._early
        ]
        return self.join(early, now).joined if early else ()

    def join(self, outcomes: Sequence[Outcome], now: float) -> JoinResult:
        """Each outcome counts once; the first truth stands."""
        joined: list[Joined] = []
        unmatched = repeated = 0
        for outcome in outcomes:
            request = self._requests.get(outcome.request_id)
            if outcome.row < self._settled.get(outcome.request_id, 0):
                repeated += 1
                continue
            if request is None or outcome.row >= len(request.predictions):
                unmatched += 1
                if request is None:
                    self._keep_early(outcome, now)
                continue
            known = self._known.setdefault(outcome.request_id, set())
            if outcome.row in known:
                repeated += 1
                continue
            known.add(outcome.row)
            joined.append(Joined(request, outcome.row, outcome.truth))
            if len(known) == len(request.predictions):
                self._settle(request)
        return JoinResult(tuple(joined), unmatched, repeated)

    def undo(self, joined: Sequence[Joined]) -> None:
        """Takes joins back that could not be stored, so that a repeated call makes them again."""
        for one in joined:
            name = one.request.request_id
            if self._settled.pop(name, 0):
                self._requests[name] = one.request
                self._requests.move_to_end(name, last=False)
                self._bytes += one.request.size
                self._known[name] = set(range(len(one.request.predictions)))
            self._known.get(name, set()).discard(one.row)

    def _keep_early(self, outcome: Outcome, now: float) -> None:
        self._early.setdefault((outcome.request_id, outcome.row), (now, outcome.truth))
        while self._early:
            since, _ = next(iter(self._early.values()))
            if len(self._early) <= MAX_EARLY and now - since <= EARLY_SECONDS:
                break
            self._early.popitem(last=False)

    def _settle(self, request: Remembered) -> None:
        self._forget(request.request_id)
        self._settled[request.request_id] = len(request.predictions)
        while len(self._settled) > self._max_requests:
            self._settled.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        while self._requests:
            oldest = next(iter(self._requests.values()))
            if (
                len(self._requests) <= self._max_requests
                and self._bytes <= self._max_bytes
                and now - oldest.time <= self._max_age
            ):
                break
            self._forget(oldest.request_id)

    def _forget(self, request_id: str) -> None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._bytes -= request.size
            self._known.pop(request_id, None)
