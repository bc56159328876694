"""The control plane: where it is, how it is, whether it knows us."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from keeptune.cli.checks import Check, section
from keeptune.cli.reading import read_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keeptune.cli.session import Session
    from keeptune.client.connection import Connection

_SECONDS = 5.0
_SERVING = 1


async def check(session: Session) -> list[Check]:
    """Addresses, health of each service, credentials, artifact store."""
    from keeptune.client.connection import SERVICES
    from keeptune.runtime.errors import KeeptuneError

    try:
        connection = session.connection()
    except KeeptuneError as error:
        found = error.message.partition("; fix: ")[0]
        return [Check("control plane", "fail", found, error.fix)]
    looked_at = (_service(connection, name) for name in SERVICES)
    checks = _told_once(await asyncio.gather(*looked_at))
    if any(each.status == "ok" for each in checks):
        checks.append(_artifacts(session))
    return checks


def _told_once(checks: Sequence[Check]) -> list[Check]:
    """One check where the same is wrong with all services."""
    first = checks[0]
    same = {each.found.removeprefix(f"{each.name} ") for each in checks}
    if len(same) > 1 or any(each.status != "fail" for each in checks):
        return list(checks)
    return [Check("control plane", "fail", same.pop(), first.next_step)]


async def _service(connection: Connection, name: str) -> Check:
    from keeptune.client.nouns import KINDS
    from keeptune.client.resources import list_all
    from keeptune.client.services import AsyncServices
    from keeptune.runtime.errors import KeeptuneError, Unavailable

    where = f"at {connection.addresses[name]}"
    services = AsyncServices(connection, timeout=_SECONDS, wait_for_ready=False)
    try:
        health = await services.health(name)
        kind = next(each for each in KINDS if each.service == name and not each.parent)
        async for _ in list_all(services, kind, limit=1):
            break
    except Unavailable as error:
        found = error.message.partition("; fix: ")[0]
        return Check(name, "fail", found, "start `keeptune dev`, or mend the address")
    except KeeptuneError as error:
        found = error.message.partition("; fix: ")[0]
        return Check(name, "fail", found, error.fix or "see the service's log")
    finally:
        await services.close()
    if health != "SERVING":
        return Check(name, "fail", f"{where} says {health}", "see the service's log")
    return Check(name, "ok", f"serves {where} and accepts the token")


def _artifacts(session: Session) -> Check:
    from keeptune.client.connection import default_data_dir

    platform: dict[str, Any] = section(read_config(session.config), "platform")
    folder = session.data_dir or Path(platform.get("data_dir") or default_data_dir())
    url = str(platform.get("artifacts") or (folder.expanduser().absolute() / "artifacts").as_uri())
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        return _remote_artifacts(url)
    store = Path(unquote(parts.path))
    if not store.exists():
        return Check(
            "artifacts",
            "warn",
            f"{store} is not on this machine, or nothing is in it yet",
            "nothing to do if the services run elsewhere; else look at platform.artifacts",
        )
    if not os.access(store, os.W_OK):
        return Check("artifacts", "fail", f"{store} cannot be written", f"chown or chmod {store}")
    return Check("artifacts", "ok", str(store))


def _remote_artifacts(url: str) -> Check:
    try:
        import fsspec
    except ModuleNotFoundError:
        return Check(
            "artifacts", "warn", f"{url}, not looked at", "run the doctor where a service runs"
        )
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.ls(path)
    except FileNotFoundError:
        return Check("artifacts", "warn", f"{url} is empty or not there", "make the bucket")
    except Exception as error:  # noqa: BLE001  (each file system fails in its own way)
        return Check(
            "artifacts", "fail", f"{url}: {error}", "see the address and the credentials of it"
        )
    return Check("artifacts", "ok", url)
