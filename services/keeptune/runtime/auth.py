"""Who may call what: bearer tokens, each with a role.

A tokens file has one `role token` a line. It is made at a program's first start, readable by its
owner alone; clients on the same machine read their token from it. Servers keep only hashes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from keeptune.runtime.errors import FailedPrecondition, PermissionDenied, Unauthenticated

HEADER = "authorization"
_SCHEME = "Bearer "
_READS = ("Get", "List", "Watch")


class Role(StrEnum):
    """admin and operator may call everything, the others may read and what they are granted."""

    ADMIN = "admin"
    OPERATOR = "operator"
    WORKER = "worker"
    AGENT = "agent"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Caller:
    """Who makes a call. `subject` is the resource that the token stands for, e.g. `hosts/x`."""

    role: Role
    subject: str = ""


# Knows the callers behind tokens that stand in no file; None for a token that it does not know.
TokenSource = Callable[[str], Caller | None]

_current: ContextVar[Caller] = ContextVar("keeptune_caller")

# The methods, by their short names, that a role may call besides reading.
Grants = Mapping[Role, Collection[str]]


@dataclass(frozen=True)
class ClientCredentials:
    """What a client shows and what it trusts. PEM files; `ca` switches TLS on.

    `tls` alone trusts the system's authorities; `cert` and `key` are for servers that ask callers
    for a certificate.
    """

    token: str = field(default="", repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def encrypted(self) -> bool:
        return self.tls or self.ca is not None

    @classmethod
    def from_file(cls, tokens_file: Path, role: Role = Role.ADMIN) -> ClientCredentials:
        """The token of a role from a tokens file on this machine."""
        for found, token in _read(tokens_file):
            if found is role:
                return cls(token=token)
        raise Unauthenticated(
            f"{tokens_file} has no token for the role {role}",
            fix=f"add a line `{role} TOKEN`, or use another role",
        )


class Tokens:
    """The tokens a server accepts."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = {_digest(token): role for token, role in roles.items()}
        self._sources: list[TokenSource] = []

    @classmethod
    def load_or_create(cls, path: Path) -> Tokens:
        """Reads the file, after making it with a token for each role if it is not there."""
        if not path.exists():
            _create(path)
        return cls({token: role for role, token in _read(path)})

    def accept(self, source: TokenSource) -> None:
        """Asks `source` about tokens that the file does not have."""
        self._sources.append(source)

    def caller_of(self, header: str | None) -> Caller:
        """Who is behind an `authorization` header; Unauthenticated for none or a wrong one."""
        if not header or not header.startswith(_SCHEME):
            raise Unauthenticated(
                "the call shows no token",
                fix='send metadata "authorization: Bearer TOKEN"; the server\'s data folder has '
                "tokens in the file `credentials`",
                reason="TOKEN_MISSING",
            )
        token = header[len(_SCHEME) :]
        role = self._roles.get(_digest(token))
        if role is not None:
            return Caller(role)
        for source in self._sources:
            caller = source(token)
            if caller is not None:
                return caller
        raise Unauthenticated(
            "the token is not known here",
            fix="use a token of this server's tokens file",
            reason="TOKEN_UNKNOWN",
        )


def current_caller() -> Caller:
    """Who makes the call that is being answered; LookupError outside of one that shows a token."""
    return _current.get()


def note_caller(caller: Caller) -> None:
    """Remembers, until the call ends, who makes it."""
    _current.set(caller)


def bearer(token: str) -> tuple[str, str]:
    """The metadata that shows a token."""
    return HEADER, _SCHEME + token


def allowed_roles(method: str, grants: Grants) -> frozenset[Role]:
    """The roles that may call `/package.Service/Method`."""
    name = method.rpartition("/")[2]
    if name.startswith(_READS):
        return frozenset(Role)
    granted = {role for role, names in grants.items() if name in names}
    return frozenset({Role.ADMIN, Role.OPERATOR, *granted})


def denied(role: Role, method: str, allowed: Collection[Role]) -> PermissionDenied:
    return PermissionDenied(
        f"the role {role} may not call {method}",
        fix=f"use a token of the role {' or '.join(sorted(allowed))}",
        reason="ROLE_NOT_ALLOWED",
        metadata={"role": role.value},
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _create(path: Path) -> None:
    """Whole or not at all; of several programs that start together one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# keeptune tokens: a role and its token. Keep this file to yourself."]
    lines += [f"{role} {secrets.token_urlsafe(32)}" for role in Role]
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _read(path: Path) -> list[tuple[Role, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except OSError as error:
        raise Unauthenticated(
            f"the tokens file {path} cannot be read: {error.strerror}",
            fix="start the server once, or give the path of its tokens file",
            reason="TOKENS_FILE_UNREADABLE",
        ) from error
    if mode & 0o077:
        raise FailedPrecondition(
            f"the tokens file {path} can be read by others",
            fix=f"chmod 600 {path}",
            reason="TOKENS_FILE_EXPOSED",
        )
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        role, _, token = line.strip().partition(" ")
        if role not in set(Role) or not token.strip():
            raise FailedPrecondition(
                f"the tokens file {path} is wrong in line {number}",
                fix=f"write a role ({', '.join(Role)}), a space and a token",
                reason="TOKENS_FILE_INVALID",
            )
        found.append((Role(role), token.strip()))
    return found
