"""What this host shows to the control plane, and how it came by that."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from keeptune.agent.config import AgentSettings
from keeptune.agent.durable_file import write_durably
from keeptune.runtime.auth import ClientCredentials, Role
from keeptune.runtime.errors import DataLoss, FailedPrecondition

_FILE = "credential.json"


@dataclass(frozen=True)
class HostCredential:
    """What the registry gave this host when it was enrolled."""

    host: str
    token: str
    registry_key: bytes
    """Ed25519 public key, 32 bytes."""

    def store(self, data_dir: Path) -> Path:
        content = {
            "host": self.host,
            "token": self.token,
            "registry_key": base64.b64encode(self.registry_key).decode(),
        }
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = data_dir / _FILE
        write_durably(path, json.dumps(content, indent=1).encode(), mode=0o600)
        return path

    @classmethod
    def load(cls, data_dir: Path) -> HostCredential | None:
        """None when the host was not enrolled."""
        path = data_dir / _FILE
        try:
            content = json.loads(path.read_text())
            return cls(content["host"], content["token"], base64.b64decode(content["registry_key"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(
                f"{path} is damaged", fix="delete it and run `keeptune agent join` again"
            ) from error


def control_plane_credentials(
    settings: AgentSettings, enrolled: HostCredential | None
) -> ClientCredentials:
    """Raises FailedPrecondition when this host has nothing to show, or is another one's."""
    if enrolled is not None:
        if enrolled.host != settings.host:
            raise FailedPrecondition(
                f"the credential in {settings.data_dir} is of the host {enrolled.host!r}, "
                f"not of {settings.host!r}",
                reason="OTHER_HOST",
                field="agent.host",
                fix="set the host back, or run `keeptune agent join` again",
            )
        return ClientCredentials(token=enrolled.token, ca=settings.ca)
    if settings.tokens_file is not None:
        local = ClientCredentials.from_file(settings.tokens_file, Role.AGENT)
        return ClientCredentials(token=local.token, ca=settings.ca)
    raise FailedPrecondition(
        "this host has no credential for the control plane",
        reason="NOT_ENROLLED",
        field="agent.tokens_file",
        fix="run `keeptune agent join`, or set tokens_file on the control plane's own machine",
    )
