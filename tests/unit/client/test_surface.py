"""The client with and without an event loop are the same to use, and light to import."""

import inspect
import os
import subprocess
import sys
from typing import Any

import pytest

from keeptune.client import AsyncClient, AsyncStudy, AsyncTrial, Client, Study, Trial


def public(kind: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"),
    [(AsyncClient, Client), (AsyncStudy, Study), (AsyncTrial, Trial)],
    ids=lambda kind: kind.__name__,
)
def test_they_have_the_same_surface(asynchronous: type, synchronous: type) -> None:
    wanted, found = public(asynchronous), public(synchronous)
    assert set(wanted) - set(found) <= {"retune_events"}
    assert not set(found) - set(wanted)
    for name, member in found.items():
        if callable(member):
            there, here = inspect.signature(wanted[name]), inspect.signature(member)
            assert list(there.parameters) == list(here.parameters), name
            assert [p.default for p in there.parameters.values()] == [
                p.default for p in here.parameters.values()
            ], name
        assert inspect.getdoc(member), name


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import keeptune.client", {"grpc", "yaml", "google.protobuf", "asyncio"}),
        (
            "from keeptune.client import Client, Float",
            {"torch", "numpy", "sqlalchemy", "pandas", "opentelemetry", "prometheus_client"},
        ),
        ("from keeptune.cli.main import keeptune", {"grpc", "yaml", "rich", "google.protobuf"}),
    ],
)
def test_importing_is_light(code: str, forbidden: set[str]) -> None:
    probe = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True
    )
    assert not forbidden & set(done.stdout.split())


def test_the_base_installation_is_enough() -> None:
    """What the extras bring is hidden; the client, its channels and the command line do without."""
    probe = """
import sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    names = {"numpy", "torch", "sqlalchemy", "alembic", "opentelemetry", "prometheus_client",
             "grpc_health", "grpc_reflection", "fsspec", "cattrs", "attr", "onnx", "psutil",
             "matplotlib", "tritonclient", "pandas", "scipy", "sklearn", "cryptography"}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in cls.names:
            return super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
from keeptune.client import Client, Float, errors
with Client("127.0.0.1:9", token="x", wait_for_ready=False, timeout=5) as client:
    try:
        client.create_study({"x": Float(0, 1)}, metric="loss", budget=1)
    except (errors.Unavailable, errors.DeadlineExceeded):
        print("unavailable")
from keeptune.cli.main import run
assert run(["--help"]) == 0
assert run(["--address", "127.0.0.1:9", "--timeout", "5", "study", "list"]) in (4, 5)
assert run(["agent", "run"]) == 6
"""
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        timeout=90,
        env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    assert "unavailable" in done.stdout and "needs " in done.stderr
