"""What the demo runs on: a folder, the parts, and how to reach them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import yaml

from keeptune.demo.processes import Part, PartError, free_ports
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import open_channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    import grpc.aio

HOST = "demo-host"
SERVICES = ("search", "training", "evaluation", "deployment", "retuning")


@dataclass
class Stage:
    """Addresses and files of one run; everything lies below `folder`.

    `services` gives each service's address; with `keeptune dev` they are all the same.
    """

    folder: Path
    services: Mapping[str, str]
    agent: str
    triton_grpc: str
    triton_http: str
    # The control plane's parts first, then Triton, then the agent.
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "control-plane"

    @property
    def host(self) -> Path:
        return self.folder / "host"

    @property
    def control_parts(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name not in ("triton", "agent")]

    def channel(self, service: str) -> grpc.aio.Channel:
        return open_channel(
            self.services[service],
            credentials=ClientCredentials.from_file(self.data / "credentials"),
        )

    def agent_channel(self) -> grpc.aio.Channel:
        return open_channel(
            self.agent,
            credentials=ClientCredentials.from_file(self.host / "agent" / "credentials"),
        )

    async def start_control_plane(self) -> None:
        for part in self.control_parts:
            part.start()
        for part in self.control_parts:
            await part.until(self.ready(part.name), seconds=60, what="it serves")

    async def start_serving_host(self) -> None:
        for name in ("triton", "agent"):
            part = self.parts[name]
            part.start()
            await part.until(self.ready(name), seconds=60, what="it serves")

    def ready(self, name: str) -> Callable[[], Awaitable[bool]]:
        """Asks whether a part can be reached."""
        if name == "triton":
            return partial(
                asyncio.to_thread, _answers, f"http://{self.triton_http}/v2/health/ready"
            )
        if name == "agent":
            return partial(_accepts, self.agent, self.host / "agent" / "credentials")
        address = self.services["retuning" if name == "dev" else name]
        return partial(_accepts, address, self.data / "credentials")

    def run(self, *arguments: str) -> str:
        """One `keeptune` command against this control plane; its standard output."""
        service = arguments[0]
        address = self.services["retuning" if service in ("policy", "retune") else service]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "keeptune.cli.main"),
                *("--address", address, "--tokens-file", str(self.data / "credentials")),
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise PartError(f"keeptune {' '.join(arguments)} failed:\n{done.stderr}")
        return done.stdout

    def stop(self) -> None:
        for part in reversed(self.parts.values()):
            part.stop()


def build_stage(folder: Path, *, serving_host: Path, apart: bool = False) -> Stage:
    """Lays out the folder and the parts; nothing is started yet.

    `serving_host` is the environment that Triton runs in. `apart` runs each service in a process
    of its own instead of `keeptune dev`.
    """
    agent, triton_grpc, triton_http, triton_metrics, *ports = free_ports(4 + len(SERVICES))
    if not apart:
        ports = ports[:1] * len(SERVICES)
    stage = Stage(
        folder=folder,
        services={name: f"127.0.0.1:{port}" for name, port in zip(SERVICES, ports, strict=True)},
        agent=f"127.0.0.1:{agent}",
        triton_grpc=f"127.0.0.1:{triton_grpc}",
        triton_http=f"127.0.0.1:{triton_http}",
    )
    logs = folder / "logs"
    repository, triton_state = stage.host / "models", stage.host / "triton"
    for each in (logs, stage.data, repository):
        each.mkdir(parents=True, exist_ok=True)
    if apart:
        config = _write_config(
            folder / "keeptune.yaml",
            {"platform": {"data_dir": str(stage.data)}, "services": dict(stage.services)},
        )
        for name in SERVICES:
            stage.parts[name] = Part(name, ["serve", name, "--config", str(config)], logs)
    else:
        stage.parts["dev"] = Part(
            "dev",
            ["dev", "--data-dir", str(stage.data), "--listen", stage.services["retuning"]],
            logs,
        )
    agent_config = _write_config(
        folder / "agent.yaml",
        {
            "agent": {
                "host": HOST,
                "data_dir": str(stage.host / "agent"),
                "server": {"listen": stage.agent},
                "deployment": stage.services["deployment"],
                "retuning": stage.services["retuning"],
                "tokens_file": str(stage.data / "credentials"),
                "model_repository": str(repository),
                "triton": {"state_dir": str(triton_state)},
            }
        },
    )
    stage.parts["triton"] = Part(
        "triton",
        [
            *("agent", "triton"),
            *("--environment", str(serving_host)),
            *("--model-repository", str(repository)),
            *("--state-dir", str(triton_state)),
            *("--grpc-port", str(triton_grpc)),
            *("--http-port", str(triton_http)),
            *("--metrics-port", str(triton_metrics)),
        ],
        logs,
    )
    stage.parts["agent"] = Part("agent", ["agent", "run", "--config", str(agent_config)], logs)
    return stage


def _write_config(path: Path, content: Mapping[str, object]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


async def _accepts(address: str, credentials: Path) -> bool:
    """Whether somebody listens there and callers can know what to show."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return await asyncio.to_thread(credentials.exists)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (loopback, ours)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
