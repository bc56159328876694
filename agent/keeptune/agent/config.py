"""Settings of the agent: section `agent` of a config file, or KEEPTUNE_AGENT__<KEY>."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from keeptune.runtime.config import ServerSettings, Settings

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def default_host() -> str:
    """This machine's name, as a host's id may be."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:63]
    return name.strip("-") or "host"


class TritonSettings(Settings):
    """Where Triton is. `state_dir` is that of `keeptune agent triton`; it tells all the rest.

    For a Triton that something else runs, give `grpc` and, where they apply, the others.
    """

    state_dir: Path | None = Field(
        None, description="folder of a Triton that `keeptune agent triton` runs"
    )
    grpc: str = Field("", description="host:port of a Triton that something else runs")
    control_token: str = Field("", description="what its model control API asks for")
    backends: tuple[str, ...] = Field(
        ("onnxruntime", "python"), description="what it can load; with state_dir it tells itself"
    )
    sampling_dir: Path | None = Field(
        None, description="folder shared with our ONNX shim; default `sampling` in state_dir"
    )
    trace_file: str = Field("", description="base of its trace files, as given to --trace-config")
    sampler: Literal["auto", "shim", "trace"] = Field(
        "auto", description="how requests are sampled; auto takes what is sound"
    )


class AgentSettings(Settings):
    """Section `agent`."""

    host: str = Field(default_factory=default_host, description="this host's id")
    data_dir: Path = Field(Path("/var/lib/keeptune-agent"), description="what the agent keeps")
    labels: dict[str, str] = Field(
        default_factory=dict, description="what models' host selectors look at"
    )
    deployment: str = Field("127.0.0.1:7314", description="host:port of the deployment service")
    retuning: str = Field("", description="host:port of the retuning service; empty = deployment")
    tokens_file: Path | None = Field(
        None,
        description="a control plane's tokens file, on its own machine; elsewhere "
        "`keeptune agent join` gets a credential of this host's own",
    )
    ca: Path | None = Field(None, description="PEM of the control plane's authority; switches TLS")
    model_repository: Path = Field(
        Path("/var/lib/keeptune-agent/models"), description="Triton's model repository"
    )
    triton: TritonSettings = Field(default_factory=TritonSettings)
    server: ServerSettings = Field(
        default_factory=lambda: ServerSettings(listen="127.0.0.1:7320"),
        description="where applications on this host reach the agent",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"

    @field_validator("host")
    @classmethod
    def _is_id(cls, value: str) -> str:
        if not _HOST.fullmatch(value):
            raise ValueError("use 1 to 63 of a-z, 0-9 and -, beginning and ending with no -")
        return value

    @field_validator("data_dir", "tokens_file", "ca", "model_repository")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        """A file says ~ where on the command line the shell would have put the home folder."""
        return None if value is None else value.expanduser()

    @property
    def retuning_address(self) -> str:
        return self.retuning or self.deployment
