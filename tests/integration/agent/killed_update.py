"""Run as a process of its own: an update of a real Triton that kills itself at a chosen moment.

Moments are the calls that change the disk and, before and after each, those to Triton. With a
moment of -1 the update ends and the number of moments is printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keeptune.agent.repository import ModelRepository
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_endpoint import TritonEndpoint
from keeptune.agent.updates import ModelUpdater
from tests.fixtures.onnx_models import make_package, scale_model


class Moments:
    def __init__(self, kill_at: int) -> None:
        self.passed = 0
        self._kill_at = kill_at

    def pass_one(self) -> None:
        if self.passed == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.pass_one()
            return function(*args, **kwargs)

        return wrapped

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.pass_one()
            result = await function(*args, **kwargs)
            self.pass_one()
            return result

        return wrapped


async def update(endpoint_file: Path, root: Path, packages: Path, model: str, version: int) -> None:
    endpoint = TritonEndpoint.read(endpoint_file)
    repository = ModelRepository(root)
    repository.acquire()
    async with TritonClient(endpoint.grpc_address, control_token=endpoint.control_token) as client:
        updater = ModelUpdater(repository, client)
        await updater.restore()
        package = make_package(packages, model, version, scale_model(1.0 + version))
        await updater.stage(package)
        await updater.install(package)
        await updater.discard_challenger(model)
        await updater.promote(model, version)
        await updater.remove_version(model, version - 1)


def main() -> None:
    endpoint_file, root, packages, model, version, kill_at = sys.argv[1:]
    moments = Moments(int(kill_at))
    for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink"):
        setattr(os, name, moments.before(getattr(os, name)))
    for name in ("load", "unload"):
        setattr(TritonClient, name, moments.around(getattr(TritonClient, name)))
    asyncio.run(update(Path(endpoint_file), Path(root), Path(packages), model, int(version)))
    print(moments.passed)


if __name__ == "__main__":
    main()
