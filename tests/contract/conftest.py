"""One product for all contract tests: started once, with one pass of its loop behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.product import Client, Product, running_agent, running_plane
from tests.contract.scene import Scene
from tests.contract.world import SECONDS, World, build_world

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in one process of the test run, which then starts one product."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.xdist_group("contract"))
            # The first one waits for the loop to go round.
            item.add_marker(pytest.mark.timeout(SECONDS + 60))


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    with running_plane(folder / "plane") as plane, running_agent(folder / "agent", plane) as agent:
        yield Product(plane, agent)


@pytest.fixture(scope="session")
def world(product: Product) -> World:
    return asyncio.run(build_world(product))


@pytest.fixture
async def client(product: Product) -> AsyncIterator[Client]:
    async with product.client() as client:
        yield client


@pytest.fixture
def scene(client: Client, product: Product, world: World) -> Scene:
    return Scene(client, product, world)
