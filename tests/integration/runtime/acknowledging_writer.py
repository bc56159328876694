"""Writes as fast as it can and says what was acknowledged; made to be killed (test_kill.py).

Arguments: the database's URL, and the number to begin with. Each line on stdout is a number whose
write was acknowledged; it is written without buffering, so that a kill cannot take it back.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from dataclasses import dataclass

from sqlalchemy import Connection

from keeptune.runtime import logging
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.records import Records, mutate
from keeptune.v1 import search_pb2


@dataclass(frozen=True)
class Entry:
    number: int


ENTRIES = Records("entry", Entry)
WRITERS = 16


def write(connection: Connection, number: int) -> search_pb2.Study:
    """Creates an entry under an id of its own, so that doing it twice would show."""

    def work() -> search_pb2.Study:
        taken = ENTRIES.list(connection, parent=str(number), page_size=1000).items
        name = f"entries/{number}-{len(taken)}"
        ENTRIES.create(connection, name, Entry(number), parent=str(number))
        return search_pb2.Study(name=name)

    request = search_pb2.CreateStudyRequest(request_id=f"r{number}")
    return mutate(
        connection,
        request_id=request.request_id,
        method="Write",
        request=request,
        response_type=search_pb2.Study,
        fn=work,
    )


async def main(url: str, first: int) -> None:
    logging.configure(level="warning", stream=sys.stderr)
    database = await Database.open(url)
    await migrate(database)
    numbers = itertools.count(first)

    async def writer() -> None:
        while True:
            number = next(numbers)
            answer = await database.run(lambda c, number=number: write(c, number))
            os.write(1, f"{number} {answer.name}\n".encode())

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
