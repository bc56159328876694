"""The desk of a study: all calls that wait there are answered in one transaction.

A durable transaction costs milliseconds, and most of what it reads and writes is the same for one
call and for fifty. So the calls of a study that have come while the last transaction was under way
share the next one: the study is locked and read once, requests are looked up in the ledger
together, and all rows are written in bulk. Each call is answered after the commit, in the order in
which they came, and a call that is refused leaves no trace.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from keeptune.runtime import ledger
from keeptune.runtime.bulk import sent_together
from keeptune.runtime.db import Database
from keeptune.runtime.errors import KeeptuneError, ResourceExhausted
from keeptune.search.known import Known
from keeptune.search.leasing import NeedSuggestionsError
from keeptune.search.suggestions import Suggestions
from keeptune.search.unit_of_work import UnitOfWork

M = TypeVar("M", bound=Message)

# Bounds how long a call can wait behind others.
_MOST_CALLS = 256


@dataclass(frozen=True)
class Call(Generic[M]):
    """`serve` makes the answer. It may run more than once; only its last run counts.

    It raises before its first change or not at all: KeeptuneError when the call is refused,
    NeedSuggestionsError when it must be made again.
    """

    method: str
    request: Any
    answer_type: type[M]
    serve: Callable[[UnitOfWork], M]


@dataclass(frozen=True)
class _Waiting:
    call: Call[Any]
    request_id: str
    fingerprint: bytes
    done: asyncio.Future[Any]


@dataclass(frozen=True)
class _Served:
    """An answer or an error for each call."""

    work: UnitOfWork
    others_changed_it: bool
    outcomes: list[Message | Exception]


class _TornError(Exception):
    """A call was refused after it had changed something; its cause says why."""


class Desk:
    def __init__(self, study: str, database: Database, suggestions: Suggestions) -> None:
        self._study = study
        self._database = database
        self._suggestions = suggestions
        self._waiting: list[_Waiting] = []
        self._serving: asyncio.Task[None] | None = None
        self._known: Known | None = None

    @property
    def is_idle(self) -> bool:
        return self._serving is None

    async def answer(self, call: Call[M]) -> M:
        """Once for each request_id; see `ledger`. Goes on when the caller is cancelled."""
        request_id = call.request.request_id
        print_ = ledger.fingerprint(call.method, call.request) if request_id else b""
        done: asyncio.Future[M] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, request_id, print_, done))
        if self._serving is None:
            # In a context of its own: the transaction is not the first caller's alone.
            self._serving = asyncio.create_task(self._serve_all(), context=contextvars.Context())
        return await done

    async def _serve_all(self) -> None:
        calls: list[_Waiting] = []
        try:
            while self._waiting:
                # What has arrived by now comes along.
                await asyncio.sleep(0)
                calls, self._waiting = self._waiting[:_MOST_CALLS], self._waiting[_MOST_CALLS:]
                await self._serve(calls)
        except BaseException as error:
            waiting, self._waiting = [*calls, *self._waiting], []
            _fail(waiting, error)
            raise
        finally:
            self._serving = None

    async def _serve(self, calls: Sequence[_Waiting]) -> None:
        try:
            async with self._suggestions.turn:
                served = await self._database.run_in_turn(partial(self._transact, calls=calls))
                self._known = served.work.leave()
                self._suggestions.heard(served.work, others_changed_it=served.others_changed_it)
        except Exception as error:  # noqa: BLE001  (it is its callers')
            self._known = None
            concerns_all = isinstance(error, KeeptuneError) and not isinstance(
                error, ResourceExhausted
            )
            if concerns_all or len(calls) == 1:
                cause = error.__cause__ if isinstance(error, _TornError) else error
                _fail(calls, cause or error)
                return
            # Something broke, or there is no room for all: each gets a transaction of its own.
            for call in calls:
                await self._serve([call])
            return
        for call, outcome in zip(calls, served.outcomes, strict=True):
            if isinstance(outcome, Exception):
                _fail([call], outcome)
            elif not call.done.done():
                call.done.set_result(outcome)

    def _transact(self, connection: Connection, calls: Sequence[_Waiting]) -> _Served:
        known = self._known
        work = UnitOfWork.begin(connection, self._study, known)
        others_changed_it = not work.began_with(known)
        kept = ledger.first_answers(connection, {each.request_id for each in calls} - {""})
        new: dict[str, tuple[bytes, bytes]] = {}
        work.lose_expired_leases()
        outcomes: list[Message | Exception] = []
        for each in calls:
            first = kept.get(each.request_id) or new.get(each.request_id)
            if first is not None:
                outcomes.append(_repeated(each, first))
                continue
            before = work.changes
            try:
                answer = each.call.serve(work)
            except (KeeptuneError, NeedSuggestionsError) as error:
                if work.changes != before:
                    raise _TornError from error
                outcomes.append(error)
                continue
            outcomes.append(answer)
            if each.request_id:
                new[each.request_id] = (each.fingerprint, answer.SerializeToString())
        work.settle()
        with sent_together(connection):
            work.finish()
            ledger.keep(connection, new, work.now)
        return _Served(work, others_changed_it, outcomes)


def _repeated(waiting: _Waiting, first: tuple[bytes, bytes]) -> Message | Exception:
    """The first answer to a request that comes again."""
    fingerprint, answer = first
    if fingerprint != waiting.fingerprint:
        return ledger.reused(waiting.request_id)
    message: Message = waiting.call.answer_type.FromString(answer)
    return message


def _fail(calls: Sequence[_Waiting], error: BaseException) -> None:
    for call in calls:
        if not call.done.done():
            if isinstance(error, Exception):
                call.done.set_exception(error)
            else:
                call.done.cancel()
