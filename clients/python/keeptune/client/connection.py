"""Where the services are, and what to show there.

What is given explicitly wins over the environment, the environment over what `keeptune dev` wrote
down on this machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.errors import FailedPrecondition, InvalidInput

SERVICES = ("search", "training", "evaluation", "deployment", "retuning")
_ENDPOINT = "endpoint.json"
_CREDENTIALS = "credentials"
# What else stands in section `services`.
_NO_ADDRESSES = ("ca", "tokens_file")


@dataclass(frozen=True)
class Connection:
    """`addresses` by service name, all the same where one server has all services; "" = not
    known."""

    addresses: Mapping[str, str]
    credentials: ClientCredentials

    def address_of(self, service: str) -> str:
        """Raises FailedPrecondition when it is not known."""
        address = self.addresses[service]
        if not address:
            raise FailedPrecondition(
                f"no address of the {service} service is given",
                fix=f"set KEEPTUNE_ADDRESS, or services.{service} in a config file (--config)",
                reason="NO_ADDRESS",
            )
        return address


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """KEEPTUNE_DATA_DIR, or where `keeptune dev` keeps its data by default."""
    if found := environment.get("KEEPTUNE_DATA_DIR"):
        return Path(found)
    base = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "keeptune"


def discover(
    *,
    address: str = "",
    services: Mapping[str, str] | None = None,
    token: str = "",
    tokens_file: Path | None = None,
    ca: Path | None = None,
    data_dir: Path | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Connection:
    """The connection that these, the environment and this machine's files amount to.

    `address` is for all services, `services` for each. For each fact the order is: arguments,
    environment (KEEPTUNE_ADDRESS, KEEPTUNE_SERVICES__<NAME>, KEEPTUNE_TOKEN, KEEPTUNE_TOKENS_FILE,
    KEEPTUNE_CA), section `services` of the file `config`, the files of a `keeptune dev`. Raises
    FailedPrecondition when nothing says where the services are, Unauthenticated when there is no
    token, and InvalidInput for an unknown service or an unreadable file.
    """
    folder = data_dir or default_data_dir(environment)
    section = _section(config) if config else {}
    _check(services or {}, "services")
    _check({key: "" for key in section if key not in _NO_ADDRESSES}, f"{config}: services")
    addresses = {
        name: (services or {}).get(name)
        or address
        or environment.get(f"KEEPTUNE_SERVICES__{name.upper()}")
        or environment.get("KEEPTUNE_ADDRESS")
        or section.get(name, "")
        for name in SERVICES
    }
    if not all(addresses.values()):
        written = _endpoint(folder, required=not any(addresses.values()))
        addresses = {name: found or written for name, found in addresses.items()}
    ca = ca or _path(environment.get("KEEPTUNE_CA") or section.get("ca"))
    if not token and tokens_file is None:
        token = environment.get("KEEPTUNE_TOKEN", "")
    if not token:
        tokens_file = (
            tokens_file
            or _path(environment.get("KEEPTUNE_TOKENS_FILE") or section.get("tokens_file"))
            or folder / _CREDENTIALS
        )
        token = ClientCredentials.from_file(tokens_file).token
    return Connection(addresses, ClientCredentials(token=token, ca=ca))


def _check(named: Mapping[str, str], where: str) -> None:
    for name in named:
        if name not in SERVICES:
            raise InvalidInput(
                field=f"{where}.{name}",
                problem="is no service",
                fix=f"use {', '.join(SERVICES)}",
            )


def _endpoint(folder: Path, *, required: bool) -> str:
    try:
        return str(json.loads((folder / _ENDPOINT).read_text())["address"])
    except FileNotFoundError:
        if not required:
            return ""
        raise FailedPrecondition(
            f"no address is given, and no control plane has run in {folder}",
            fix="start `keeptune dev`, or set KEEPTUNE_ADDRESS=host:port (or --address)",
            reason="NO_ADDRESS",
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(
            f"{folder / _ENDPOINT} cannot be read: {error}",
            fix="start `keeptune dev` again, or set KEEPTUNE_ADDRESS=host:port",
            reason="NO_ADDRESS",
        ) from None


def _section(file: Path) -> dict[str, str]:
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(field="config", problem=f"cannot be read: {file}: {error}") from None
    section = content.get("services", {}) if isinstance(content, dict) else {}
    return {str(key): str(value) for key, value in section.items() if value is not None}


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None
