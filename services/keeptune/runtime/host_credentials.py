"""Hosts' own bearer tokens: made by the registry, recognised wherever its public key is known.

A token is `<host id>.<nonce>.<signature>`, the signature being the registry's (Ed25519), in
URL-safe base64. So a server needs no word from the deployment service to tell whose it is; only
that service knows which token of a host is the newest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keeptune.runtime import names
from keeptune.runtime.auth import Caller, Role, TokenSource

_PURPOSE = "keeptune host credential"


def make_token(host_id: str, nonce: str, sign: Callable[[bytes], bytes]) -> str:
    """`nonce` has no dot; `sign` is the registry's."""
    signature = base64.urlsafe_b64encode(sign(_statement(host_id, nonce))).decode()
    return f"{host_id}.{nonce}.{signature}"


def host_of(token: str, public_key: bytes) -> Caller | None:
    """The host behind a token; None when the key (32 bytes) did not sign it."""
    host_id, _, rest = token.partition(".")
    nonce, _, encoded = rest.partition(".")
    try:
        signature = base64.urlsafe_b64decode(encoded)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _statement(host_id, nonce))
    except (binascii.Error, ValueError, InvalidSignature):
        return None
    return Caller(Role.AGENT, names.host_name(host_id))


def source_of(path: Path) -> TokenSource:
    """Recognises tokens by the public key in a file (hex), which may be written later."""

    def caller(token: str) -> Caller | None:
        if token.count(".") != 2 or not path.exists():
            return None
        return host_of(token, bytes.fromhex(path.read_text().strip()))

    return caller


def _statement(host_id: str, nonce: str) -> bytes:
    return f"{_PURPOSE}\0{host_id}\0{nonce}".encode()
