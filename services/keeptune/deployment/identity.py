"""Who speaks for a host: join tokens, the hosts' own credentials, and what they allow.

A credential is signed by the registry's key (see `runtime.host_credentials`), so that any server
that knows the key can tell whose it is. The deployment service keeps a hash of the one that
counts: enrolling a host again ends the one before.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from keeptune.deployment.signing import RegistryKey, create_file
from keeptune.deployment.sql_store import hosts
from keeptune.runtime import names
from keeptune.runtime.auth import Caller, current_caller
from keeptune.runtime.db import Database
from keeptune.runtime.errors import InvalidInput, PermissionDenied, Unauthenticated
from keeptune.runtime.host_credentials import host_of, make_token


class HostCredentials:
    """Makes and recognises hosts' credentials."""

    def __init__(self, key: RegistryKey) -> None:
        self._key = key

    def issue(self, host: str, request_id: str) -> str:
        """A credential for `host` (its name). The same request_id gets the same one."""
        nonce = self._key.derive("nonce", host, request_id or secrets.token_hex(16))[:32]
        return make_token(names.parse_host(host), nonce, self._key.sign)

    def caller(self, token: str) -> Caller | None:
        """The host behind a token; None when this key did not make it."""
        return host_of(token, self._key.public_key)


class JoinToken:
    """The secret that lets a host enroll; kept in a file, so that it can be changed at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            create_file(path, secrets.token_urlsafe(32))

    def check(self, given: str) -> None:
        """Raises InvalidInput for none, Unauthenticated for a wrong one."""
        if not given:
            raise InvalidInput(
                field="join_token",
                problem="is empty",
                fix=f"give the content of {self._path.name} in the control plane's data folder",
            )
        wanted = self._path.read_text().strip()
        if not wanted or not hmac.compare_digest(_digest(given), _digest(wanted)):
            raise Unauthenticated(
                "the join token is not the one of this control plane",
                field="join_token",
                fix=f"give the content of {self._path.name} in the control plane's data folder",
                reason="JOIN_TOKEN_UNKNOWN",
            )


async def check_speaks_for(host: str, database: Database, token: str) -> None:
    """Raises PermissionDenied when the caller may not speak for `host`.

    A host's own credential speaks for that host as long as it is its newest; a token of the roles
    admin, operator or agent for any.
    """
    caller = current_caller()
    if not caller.subject:
        return
    if caller.subject != host:
        raise PermissionDenied(
            f"the credential of {caller.subject} does not speak for {host}",
            fix="enroll this host, and use its own credential",
            reason="NOT_YOUR_HOST",
        )
    if await database.read(lambda c: hosts.host_of_credential(c, token)) != host:
        raise Unauthenticated(
            f"this credential of {host} has been replaced by a newer one",
            fix="enroll the host again",
            reason="CREDENTIAL_REPLACED",
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
