"""Where a server listens."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from keeptune.runtime.errors import InvalidInput


@dataclass(frozen=True)
class Address:
    """`host:port`; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, *, field: str = "listen") -> Address:
    """`127.0.0.1:8080`, `[::1]:0`, `localhost:50051`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    valid_port = port.isascii() and port.isdigit() and int(port) < 65536
    if not colon or not host or not valid_port or (":" in host and not bracketed):
        raise InvalidInput(
            field=field, problem=f"is {text!r}", fix="give host:port, e.g. 127.0.0.1:7070"
        )
    return Address(host, int(port))
