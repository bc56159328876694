"""A serving host's environment: where Triton's parts lie, and a backend folder made of them.

A serving host has a Python environment of its own (nvidia-pytriton without its dependencies,
numpy below 2, onnxruntime), because numpy 2 inside a python model corrupts tensors silently.
`ServingHost.inspect` finds the parts and refuses an environment that could not serve soundly;
`install_backends` lays out the folder that `tritonserver --backend-directory` reads.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keeptune.agent.shim import SHIM
from keeptune.runtime.errors import FailedPrecondition

_INSPECT = """
import importlib.metadata as m, json, sys, sysconfig
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return ""
print(json.dumps({
    "python": "%d.%d" % sys.version_info[:2],
    "libdir": sysconfig.get_config_var("LIBDIR") or "",
    "site": sysconfig.get_path("purelib"),
    "packages": {n: version(n) for n in ("nvidia-pytriton", "numpy", "onnxruntime")},
}))
"""


@dataclass(frozen=True)
class ServingHost:
    """The parts of Triton found in one environment."""

    environment: Path
    tritonserver: Path
    python_version: str
    """`major.minor` of the environment's Python, which decides the stub."""
    backend_library: Path
    backend_utils: Path
    stub: Path
    library_path: str
    """LD_LIBRARY_PATH for the server and its stubs."""

    @classmethod
    def inspect(cls, environment: Path) -> ServingHost:
        """Finds Triton in `environment` (the root of a venv).

        Raises FailedPrecondition when something is missing or numpy is 2 or newer.
        """
        environment = environment.absolute()
        python = environment / "bin" / "python"
        if not python.exists():
            raise _unsound(f"there is no Python environment at {environment}")
        answer = subprocess.run(
            [python, "-I", "-c", _INSPECT], capture_output=True, text=True, timeout=60, check=False
        )
        if answer.returncode != 0:
            raise _unsound(f"{python} does not run: {answer.stderr.strip()[-300:]}")
        found = json.loads(answer.stdout)
        _check_packages(found["packages"])
        site = Path(found["site"])
        triton = site / "pytriton" / "tritonserver"
        host = cls(
            environment=environment,
            tritonserver=triton / "bin" / "tritonserver",
            python_version=found["python"],
            backend_library=triton / "backends" / "python" / "libtriton_python.so",
            backend_utils=triton / "backends" / "python" / "triton_python_backend_utils.py",
            stub=triton / "python_backend_stubs" / found["python"] / "triton_python_backend_stub",
            library_path=os.pathsep.join(
                part for part in (str(site / "nvidia_pytriton.libs"), found["libdir"]) if part
            ),
        )
        for part in (host.tritonserver, host.backend_library, host.backend_utils, host.stub):
            if not part.is_file():
                raise _unsound(f"{part} is missing")
        return host

    def install_backends(self, folder: Path) -> None:
        """Makes `folder` hold the python backend and, as `onnxruntime`, our ONNX shim.

        Files are copied, since Triton refuses links that leave the folder. Repeating it is
        cheap and repairs what is missing or different.
        """
        _copy(self.backend_library, folder / "python" / self.backend_library.name)
        _copy(self.backend_utils, folder / "python" / self.backend_utils.name)
        _copy(self.stub, folder / "python" / self.stub.name)
        _copy(SHIM, folder / "onnxruntime" / "model.py")

    def process_environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment variables of the server: `base` with paths and thread limits set."""
        env = {k: v for k, v in base.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        env["LD_LIBRARY_PATH"] = self.library_path
        env["PATH"] = os.pathsep.join([str(self.environment / "bin"), base.get("PATH", "")])
        env["VIRTUAL_ENV"] = str(self.environment)
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        # Models run one request at a time in a stub; threads on busy cores only slow them.
        env.setdefault("OMP_NUM_THREADS", "1")
        env.setdefault("OPENBLAS_NUM_THREADS", "1")
        return env


def installed_backends(folder: Path) -> tuple[str, ...]:
    """The backends that a server with this backend folder can use, in order."""
    return tuple(
        sorted(
            entry.name
            for entry in folder.iterdir()
            if (entry / f"libtriton_{entry.name}.so").is_file() or (entry / "model.py").is_file()
        )
    )


def _check_packages(packages: Mapping[str, str]) -> None:
    for name in ("nvidia-pytriton", "numpy", "onnxruntime"):
        if not packages[name]:
            raise _unsound(f"the package {name} is not installed there")
    if int(packages["numpy"].split(".")[0]) >= 2:
        raise _unsound(
            f"numpy {packages['numpy']} is installed there, which silently corrupts tensors "
            "in Triton's python backend"
        )


def _unsound(problem: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the serving-host environment cannot run Triton: {problem}",
        reason="SERVING_HOST_UNSOUND",
        fix="create it anew: pip install --no-deps nvidia-pytriton==0.7.0, "
        "then pip install numpy==1.26.4 onnxruntime",
    )


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and not target.is_symlink() and filecmp.cmp(source, target, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, partial)
    partial.chmod(0o755)
    os.replace(partial, target)
