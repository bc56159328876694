"""Answers given to applications, so that a repeated request gets its first one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from keeptune.runtime.errors import InvalidInput

M = TypeVar("M", bound=Message)

MOST = 10_000


class Answers(Generic[M]):
    """The last answers of one method, in memory: what they stand for ends with the process too."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, tuple[bytes, asyncio.Task[M]]] = OrderedDict()

    async def once(
        self, request_id: str, request: Message, work: Callable[[], Coroutine[Any, Any, M]]
    ) -> M:
        """The answer of `work`, which is done once for each request_id; a failure is forgotten.

        Raises InvalidInput when the request_id was used for another request.
        """
        if not request_id:
            return await work()
        said = request.SerializeToString(deterministic=True)
        known = self._known.get(request_id)
        if known is not None and known[0] != said:
            raise InvalidInput(
                field="request_id",
                problem=f"{request_id!r} was used for another request",
                fix="use a new request_id for each request, the same one only to repeat it",
                reason="REQUEST_ID_REUSED",
            )
        if known is None:
            known = self._known[request_id] = (said, asyncio.create_task(work()))
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        task = known[1]
        try:
            # The work goes on when its caller has gone, whose repeated call will ask for it.
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and self._known.get(request_id) == known:
                del self._known[request_id]
            raise
