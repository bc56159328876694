"""The sections of a config file, beside those of the services themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from keeptune.composition.services import SERVICES
from keeptune.runtime.config import Loaded, ServerSettings, Settings, load
from keeptune.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable


def default_data_dir() -> Path:
    """Where `keeptune dev` keeps its data, by the XDG convention."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "keeptune"


class PlatformSettings(Settings):
    """Section `platform`: what all programs of an installation agree on."""

    data_dir: Path = Field(default_factory=default_data_dir)
    # Shared by all services; agents never see it. Empty = the folder artifacts of data_dir.
    artifacts: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"


class ServicesSettings(Settings):
    """Section `services`: where each service is reached, and what callers show there."""

    search: str = "127.0.0.1:7311"
    training: str = "127.0.0.1:7312"
    evaluation: str = "127.0.0.1:7313"
    deployment: str = "127.0.0.1:7314"
    retuning: str = "127.0.0.1:7315"
    # Tokens for calls from service to service; empty = the installation's own tokens file.
    tokens_file: Path | None = None
    # PEM file of the authority that signed the servers' certificates; unset = no TLS.
    ca: Path | None = None


@dataclass(frozen=True)
class Configuration:
    """A whole config file, read; `sections` holds the services' own settings."""

    platform: Loaded[PlatformSettings]
    server: Loaded[ServerSettings]
    services: Loaded[ServicesSettings]
    sections: Mapping[str, Loaded[Settings]]

    def all(self) -> dict[str, Loaded[Settings]]:
        """Every section by its name."""
        common: dict[str, Loaded[Settings]] = {
            "platform": self.platform,  # type: ignore[dict-item]
            "server": self.server,  # type: ignore[dict-item]
            "services": self.services,  # type: ignore[dict-item]
        }
        return common | dict(self.sections)


def read(
    models: Mapping[str, type[Settings]],
    *,
    file: Path | None,
    env: Mapping[str, str],
    known: Iterable[str] = SERVICES,
) -> Configuration:
    """Reads the common sections and those of `models`.

    Sections of other `known` services may stand in the same file. Raises InvalidInput for what is
    wrong, unknown sections and unknown environment variables of ours included.
    """
    sections = ("platform", "server", "services", *known, "agent")
    _refuse_unknown_sections(env, sections)
    return Configuration(
        platform=load(PlatformSettings, file=file, env=env, section="platform", sections=sections),
        server=load(ServerSettings, file=file, env=env, section="server", sections=sections),
        services=load(ServicesSettings, file=file, env=env, section="services", sections=sections),
        sections={
            name: load(model, file=file, env=env, section=name, sections=sections)
            for name, model in models.items()
        },
    )


def _refuse_unknown_sections(env: Mapping[str, str], sections: Iterable[str]) -> None:
    known = {section.upper() for section in sections}
    for name in env:
        if name.startswith("KEEPTUNE_") and "__" in name:
            section = name.removeprefix("KEEPTUNE_").partition("__")[0]
            if section not in known:
                raise InvalidInput(
                    field=name,
                    problem=f"names an unknown section {section.lower()!r}",
                    fix=f"use one of {', '.join(sorted(s.lower() for s in known))}",
                    reason="INVALID_CONFIG",
                )
