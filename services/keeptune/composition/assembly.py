"""From a configuration to running programs."""

from __future__ import annotations

import importlib
import json
import os
import random
import socket
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from keeptune.composition.services import SERVICES
from keeptune.composition.settings import Configuration, read
from keeptune.runtime import logging
from keeptune.runtime.addresses import parse_address
from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.auth import ClientCredentials, Tokens
from keeptune.runtime.channel import Endpoint, open_channel
from keeptune.runtime.clock import SystemClock
from keeptune.runtime.config import Loaded, ServerSettings, Settings
from keeptune.runtime.errors import Unavailable
from keeptune.runtime.server import Context, Program, serve
from keeptune.runtime.sql_errors import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import grpc.aio

S = TypeVar("S", bound=Settings)

ENDPOINT_FILE = "endpoint.json"
CREDENTIALS_FILE = "credentials"


class Build(Protocol):
    async def __call__(self, settings: Settings, context: Context) -> Program: ...


def settings_models(services: Sequence[str] = SERVICES) -> dict[str, type[Settings]]:
    """The settings class of each service: `<Service>Settings` in its module `config`."""
    return {
        name: getattr(
            importlib.import_module(f"keeptune.{name}.config"), f"{name.capitalize()}Settings"
        )
        for name in services
    }


def read_configuration(
    services: Sequence[str],
    *,
    file: Path | None,
    env: Mapping[str, str],
    data_dir: Path | None = None,
    listen: str = "",
) -> Configuration:
    """The configuration of a process with these services; flags win over everything."""
    configuration = read(settings_models(services), file=file, env=env)
    if data_dir is not None:
        configuration = replace(
            configuration,
            platform=_override(configuration.platform, "data_dir", data_dir, "--data-dir"),
        )
    if listen:
        configuration = replace(
            configuration, server=_override(configuration.server, "listen", listen, "--listen")
        )
    return configuration


async def run(
    services: Sequence[str],
    configuration: Configuration,
    *,
    listen: str,
    together: bool,
    ready: Callable[[str], None],
) -> None:
    """Builds the services' programs and serves them at one address until told to stop.

    `listen` is where, if the configuration does not say; `together` = they are each other's
    peers, whatever the section `services` says, and callers may look around by reflection.
    """
    # Before numpy is loaded: threads for the small matrices of a suggestion cost twenty times what
    # they save. Processes that compute much set their own number.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    platform = configuration.platform.value
    chosen = platform.log_format
    # A person watches, also through a pipe.
    logging.configure(
        level=platform.log_level, format="pretty" if together and chosen == "auto" else chosen
    )
    data_dir = platform.data_dir.expanduser().absolute()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = configuration.server.value
    if configuration.server.origins["listen"] == "default":
        server = server.model_copy(update={"listen": listen})
    if together:
        server = server.model_copy(update={"listen": _settled(server.listen)})
        if configuration.server.origins["reflection"] == "default":
            server = server.model_copy(update={"reflection": True})
    tokens_file = server.tokens_file or data_dir / CREDENTIALS_FILE
    tokens = Tokens.load_or_create(tokens_file)
    find = _endpoints(configuration, server, tokens_file, together=together)
    context = Context(
        clock=SystemClock(),
        data_dir=data_dir,
        artifacts=ArtifactStore(platform.artifacts or (data_dir / "artifacts").as_uri()),
        open_channel=_channels(find),
        rng=random.SystemRandom(),
        find=find,
    )
    programs: list[Program] = []
    try:
        for name in services:
            build = cast("Build", importlib.import_module(f"keeptune.{name}.program").build)
            with _database_named(name):
                programs.append(await build(configuration.sections[name].value, context))
    except BaseException:
        for program in reversed(programs):
            if program.close is not None:
                await program.close()
        raise
    await serve(programs, server, tokens=tokens, ready=ready)


def write_endpoint(data_dir: Path, address: str) -> None:
    """Notes where the control plane listens, for clients on this machine."""
    path = data_dir / ENDPOINT_FILE
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n")
    draft.replace(path)


@contextmanager
def _database_named(service: str) -> Iterator[None]:
    """A database that cannot be reached is told with the setting that says where it is."""
    try:
        yield
    except Unavailable as error:
        if error.reason != UNREACHABLE:
            raise
        raise Unavailable(
            f"{service}: {error.message}",
            fix=f"start it, or mend {service}.database (KEEPTUNE_{service.upper()}__DATABASE)",
            reason=UNREACHABLE,
        ) from error


def _endpoints(
    configuration: Configuration, server: ServerSettings, tokens_file: Path, *, together: bool
) -> Callable[[str], Endpoint]:
    services = configuration.services.value

    def find(name: str) -> Endpoint:
        target = server.listen if together else getattr(services, name)
        credentials = ClientCredentials.from_file(services.tokens_file or tokens_file)
        ca = services.ca or (server.tls.cert if together and server.tls else None)
        return Endpoint(target, replace(credentials, ca=ca))

    return find


def _channels(find: Callable[[str], Endpoint]) -> Callable[[str], grpc.aio.Channel]:
    # Each program has one channel to each peer, however many stubs it makes.
    open_ones: dict[str, grpc.aio.Channel] = {}

    def channel(name: str) -> grpc.aio.Channel:
        endpoint = find(name)
        if endpoint.target not in open_ones:
            open_ones[endpoint.target] = open_channel(
                endpoint.target, credentials=endpoint.credentials
            )
        return open_ones[endpoint.target]

    return channel


def _settled(listen: str) -> str:
    """The address with a free port for port 0: the peers inside must know it beforehand."""
    address = parse_address(listen)
    if address.port:
        return listen
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address.host, 0))
        except OSError as error:
            raise Unavailable(f"no free port on {address.host}: {error.strerror}") from error
        return str(replace(address, port=probe.getsockname()[1]))


def _override(loaded: Loaded[S], key: str, value: object, origin: str) -> Loaded[S]:
    return Loaded(loaded.value.model_copy(update={key: value}), {**loaded.origins, key: origin})
