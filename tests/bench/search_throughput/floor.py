"""The least that a durable service can do: bare grpc.aio, and SQLite with one commit for all.

    python floor.py DATABASE    # prints its address

It speaks the messages of SearchService. Every call is on the disk before it is answered: a trial
handed out is inserted, a result is an update, and all that waits shares one commit. There are no
leases, no idempotency, no validation, no tokens, no events, no optimiser: what is left is what
Python, gRPC and the disk cost.
"""

from __future__ import annotations

import asyncio
import queue
import random
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc

from keeptune.v1 import search_pb2, search_pb2_grpc

_INSERT = "INSERT INTO trials (number, body) VALUES (?, ?)"
_UPDATE = "UPDATE trials SET body = ? WHERE number = ?"

# SQL with its parameters.
Statement = tuple[str, tuple[Any, ...]]


class GroupCommit:
    """One thread, one connection; everything that waits is one transaction."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[list[Statement], asyncio.Future[None]]]
        self._waiting = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def run(self, statements: list[Statement]) -> asyncio.Future[None]:
        done = self._loop.create_future()
        self._waiting.put((statements, done))
        return done

    def _serve(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE trials (number INTEGER PRIMARY KEY, body BLOB)")
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            connection.execute("BEGIN IMMEDIATE")
            for statements, _ in batch:
                for sql, values in statements:
                    connection.execute(sql, values)
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_settle, [done for _, done in batch])


def _settle(batch: list[asyncio.Future[None]]) -> None:
    for done in batch:
        if not done.cancelled():
            done.set_result(None)


class Floor(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, store: GroupCommit) -> None:
        self._store = store
        self._random = random.Random(1)
        self._trials = 0

    async def SuggestTrials(
        self, request: search_pb2.SuggestTrialsRequest, context: Any
    ) -> search_pb2.SuggestTrialsResponse:
        leased, statement = self._new_trial()
        await self._store.run([statement])
        return search_pb2.SuggestTrialsResponse(trials=[leased])

    async def CompleteTrial(
        self, request: search_pb2.CompleteTrialRequest, context: Any
    ) -> search_pb2.CompleteTrialResponse:
        return await self._complete(request)

    async def WorkTrials(
        self, request_iterator: AsyncIterator[search_pb2.WorkTrialsRequest], context: Any
    ) -> AsyncIterator[search_pb2.WorkTrialsResponse]:
        async for message in request_iterator:
            if message.HasField("suggest"):
                suggest = await self.SuggestTrials(message.suggest, context)
                yield search_pb2.WorkTrialsResponse(suggest=suggest)
            else:
                complete = await self._complete(message.complete)
                yield search_pb2.WorkTrialsResponse(complete=complete)

    async def _complete(
        self, request: search_pb2.CompleteTrialRequest
    ) -> search_pb2.CompleteTrialResponse:
        answer = search_pb2.CompleteTrialResponse(accepted=True)
        number = int(request.trial.rpartition("/")[2])
        statements: list[Statement] = [(_UPDATE, (request.SerializeToString(), number))]
        if request.next:
            leased, statement = self._new_trial()
            answer.next.trials.append(leased)
            statements.append(statement)
        await self._store.run(statements)
        return answer

    def _new_trial(self) -> tuple[search_pb2.LeasedTrial, Statement]:
        self._trials += 1
        leased = search_pb2.LeasedTrial()
        leased.trial.name = f"studies/s/trials/{self._trials}"
        leased.lease.token = "x"
        for name in ("x", "rate", "depth", "kind"):
            leased.trial.parameters[name].double_value = self._random.random()
        return leased, (_INSERT, (self._trials, leased.SerializeToString()))


async def main() -> None:
    server = grpc.aio.server()
    floor = Floor(GroupCommit(sys.argv[1]))
    search_pb2_grpc.add_SearchServiceServicer_to_server(floor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
