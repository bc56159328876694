"""The registry's key: what it signs, hosts can verify without trusting the way it came."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keeptune.runtime.errors import FailedPrecondition

_SEED_BYTES = 32


class RegistryKey:
    """An Ed25519 key, kept as the 32 bytes of its seed in hex."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @classmethod
    def load_or_create(cls, path: Path) -> RegistryKey:
        """Reads the key, or makes one that only this user may read.

        Raises FailedPrecondition for a file that holds no key: making another one in its place
        would cut off every enrolled host.
        """
        if not path.exists():
            create_file(path, secrets.token_hex(_SEED_BYTES))
        text = path.read_text().strip()
        try:
            seed = bytes.fromhex(text)
        except ValueError:
            seed = b""
        if len(seed) != _SEED_BYTES:
            raise FailedPrecondition(
                f"{path} holds no registry key",
                reason="BAD_REGISTRY_KEY",
                fix="restore it from a backup; or move it away, and enroll every host anew",
            )
        return cls(seed)

    @property
    def public_key(self) -> bytes:
        """32 bytes, as RFC 8032 has them."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(content)

    def publish(self, path: Path) -> None:
        """Writes the public key in hex, for servers that recognise hosts by it."""
        if path.exists() and path.read_text().strip() == self.public_key.hex():
            return
        path.unlink(missing_ok=True)
        create_file(path, self.public_key.hex(), mode=0o644)

    def derive(self, *parts: str) -> str:
        """A secret that only this key can make, the same whenever the parts are the same."""
        message = "\0".join(parts).encode()
        return hmac.new(self._seed, message, hashlib.sha256).hexdigest()


def create_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Writes a file, whole or not at all; one that is there already stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as target:
            target.write(text + "\n")
            target.flush()
            os.fsync(target.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
