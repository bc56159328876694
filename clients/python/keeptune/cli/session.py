"""What every command shares: how to reach the services, and how to answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from keeptune.client.connection import Connection


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

    @cached_property
    def connection(self) -> Connection:
        from keeptune.client.connection import discover

        return discover(
            address=self.address,
            data_dir=self.data_dir,
            tokens_file=self.tokens_file,
            ca=self.ca,
            config=self.config,
        )

    def channel(self, service: str) -> grpc.Channel:
        """A synchronous channel to a service."""
        from keeptune.runtime.channel import open_sync_channel

        return open_sync_channel(
            self.connection.addresses[service],
            credentials=self.connection.credentials,
            timeout=self.timeout,
            wait_for_ready=False,
        )


pass_session = click.make_pass_decorator(Session, ensure=True)


def as_data(message: Message) -> dict[str, Any]:
    """A message as plain data with the names of its proto."""
    from google.protobuf import json_format

    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))
