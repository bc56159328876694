"""The client with and without an event loop are the same to use, and light to import."""

import inspect
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
