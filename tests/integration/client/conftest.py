"""A real search service, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keeptune.client import Client
from tests.fixtures.served import Served, serve


@pytest.fixture(scope="session")
def search_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Shared by tests that leave it alone; each makes studies of its own."""
    served = serve(["serve", "search"], tmp_path_factory.mktemp("search") / "data")
    yield served
    served.stop()


@pytest.fixture
def own_search_server(tmp_path: Path) -> Iterator[Served]:
    """For tests that kill it."""
    served = serve(["serve", "search"], tmp_path / "data")
    yield served
    served.stop()


@pytest.fixture
def client(search_server: Served) -> Iterator[Client]:
    with Client(search_server.address, tokens_file=search_server.tokens_file) as client:
        yield client
