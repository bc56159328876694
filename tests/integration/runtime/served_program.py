"""A process that serves (test_serve.py).

Arguments: data folder, metrics address, what goes wrong.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from conftest import SERVICE, Servicer  # type: ignore[import-not-found]

from keeptune.runtime import logging
from keeptune.runtime.auth import Tokens
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.errors import DataLoss, Unavailable
from keeptune.runtime.server import Program, serve
from keeptune.v1 import search_pb2_grpc


async def main(folder: Path, metrics: str, trouble: str) -> None:
    servicer = Servicer()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.2)
            if trouble == "loop":
                raise DataLoss("the loop is broken")

    async def close() -> None:
        print("closed", flush=True)

    program = Program(
        "search",
        [(search_pb2_grpc.add_SearchServiceServicer_to_server, servicer, SERVICE)],
        background=[beat],
        close=close,
    )
    settings = ServerSettings(metrics_listen=metrics, drain_seconds=5)
    await serve(
        [program],
        settings,
        tokens=Tokens.load_or_create(folder / "credentials"),
        ready=lambda address: print(address, flush=True),
    )


if __name__ == "__main__":
    logging.configure(format="json")
    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
    except (DataLoss, Unavailable) as error:
        sys.exit(f"failed: {error} {getattr(error, '__notes__', '')}")
