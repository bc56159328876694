"""The wiring of the retuning service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keeptune.retuning.loop import Loop
from keeptune.retuning.peers import Peers
from keeptune.retuning.servicer import RetuningServicer
from keeptune.runtime.auth import Role
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.server import Program
from keeptune.v1 import retuning_pb2_grpc

if TYPE_CHECKING:
    from keeptune.retuning.config import RetuningSettings
    from keeptune.runtime.server import Context


async def build(settings: RetuningSettings, context: Context) -> Program:
    """Opens the database and connects to the other services (which may be away)."""
    url = settings.database or f"sqlite:///{context.data_dir / 'retuning.db'}"
    database = await Database.open(url, clock=context.clock)
    await migrate(database)
    peers = Peers.connect(context.open_channel)
    loop = Loop(database, peers, context.clock, settings.poll_seconds)
    servicer = RetuningServicer(database, peers, loop, context.clock)
    return Program(
        name="retuning",
        servicers=[
            (
                retuning_pb2_grpc.add_RetuningServiceServicer_to_server,
                servicer,
                "keeptune.v1.RetuningService",
            )
        ],
        background=[loop.run],
        close=database.close,
        grants={Role.AGENT: ["RequestRetune"]},
    )
