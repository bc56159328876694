"""What every command shares: how to reach the services, and how to answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.connection import Connection

T = TypeVar("T")

# How long a watch outlasts a service that is away, in seconds.
_PATIENCE = 60.0


@dataclass
class Session:
    """The global options of one invocation."""

    address: str = ""
    data_dir: Path | None = None
    tokens_file: Path | None = None
    ca: Path | None = None
    config: Path | None = None
    timeout: float = 30.0
    as_json: bool = False

    def connection(self) -> Connection:
        """Where the services are, and what is shown there."""
        from keeptune.client.connection import discover

        return discover(
            address=self.address,
            data_dir=self.data_dir,
            tokens_file=self.tokens_file,
            ca=self.ca,
            config=self.config,
        )

    def run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
        """What `work` makes of a client of the services."""
        # Slow to import; `keeptune --help` should not pay for it.
        import asyncio

        from keeptune.client.async_client import AsyncClient

        async def with_client() -> T:
            async with AsyncClient(
                self.address,
                data_dir=self.data_dir,
                tokens_file=self.tokens_file,
                ca=self.ca,
                config=self.config,
                timeout=self.timeout,
                patience=_PATIENCE,
                # A person wants to know at once that nobody listens.
                wait_for_ready=False,
            ) as client:
                return await work(client)

        return asyncio.run(with_client())


pass_session = click.make_pass_decorator(Session)
