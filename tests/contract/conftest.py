"""One product for all contract tests: started once, with one pass of its loop behind it.

Modules that use it carry `product.ONE_PRODUCT`, so that one process of the test run has them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.contract.product import Client, Product, running_agent, running_plane
from tests.contract.scene import Scene
from tests.contract.world import World, build_world


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
