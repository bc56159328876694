"""Every RPC of the product is answered: well, or with a reason and a way out."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import open_channel
from keeptune.runtime.errors import KeeptuneError, NotFound, NotImplementedYet, Unauthenticated
from tests.contract.product import ONE_PRODUCT, Client, Product
from tests.contract.protos import RPCS, is_read, new
from tests.contract.reads import READS, answer
from tests.contract.world import World, at_rest, snapshot

pytestmark = list(ONE_PRODUCT)

# What comes later, and a word of what to use meanwhile.
LATER = {
    "DeploymentService.RenderManifests": "keeptune agent run",
}
# They get what follows from a resource, not the resource itself.
ABOUT_A_STUDY = {
    "SearchService.GetParameterImportance",
    "SearchService.GetPartialDependence",
    "SearchService.GetStudyOutlook",
}


@pytest.mark.parametrize("rpc", RPCS)
async def test_an_empty_request_gets_an_answer(client: Client, world: World, rpc: str) -> None:
    await at_rest(client)
    before = await snapshot(client)
    refusal: KeeptuneError | None = None
    try:
        await answer(client, rpc, new(RPCS[rpc].input_type), seconds=0.2)
    except KeeptuneError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal
        assert refusal.reason.isupper()
        assert refusal.violations, refusal
        assert all(each.problem for each in refusal.violations)
    assert await snapshot(client) == before


def test_every_read_is_tried() -> None:
    assert set(READS) == {rpc for rpc in RPCS if is_read(rpc)}


@pytest.mark.parametrize("rpc", sorted(set(READS) - set(LATER)))
async def test_what_there_is_can_be_read(client: Client, world: World, rpc: str) -> None:
    request = READS[rpc](world)
    # No signal was ever raised on this host: its stream is open and says nothing.
    silent = rpc == "AgentService.WatchSignals"
    found = await answer(client, rpc, request, 0.3 if silent else 20.0)
    assert (found is None) == silent
    if rpc in ABOUT_A_STUDY:
        assert found.metric == "loss"
    elif rpc.partition(".")[2].startswith("Get") and rpc != "AgentService.GetStatus":
        assert found.name == request.name
    elif rpc.partition(".")[2].startswith("List") and rpc != "AgentService.ListModels":
        (items,) = (value for field, value in found.ListFields() if field.is_repeated)
        assert len(items) >= 1
    elif ".Watch" in rpc and not silent:
        assert found.revision > 0


@pytest.mark.parametrize("rpc", LATER)
async def test_what_comes_later_says_what_to_use_meanwhile(
    client: Client, world: World, rpc: str
) -> None:
    with pytest.raises(NotImplementedYet) as caught:
        await answer(client, rpc, READS[rpc](world))
    assert caught.value.reason == "NOT_IMPLEMENTED_YET"
    assert LATER[rpc] in caught.value.fix


@pytest.mark.parametrize(
    "rpc", [rpc for rpc in READS if ".Get" in rpc and rpc not in {"AgentService.GetStatus", *LATER}]
)
async def test_what_is_not_there_is_not_found(client: Client, world: World, rpc: str) -> None:
    request = READS[rpc](world)
    field = "study" if rpc in ABOUT_A_STUDY else "name"
    collection, _, rest = getattr(request, field).partition("/")
    missing = f"{collection}/none/{rest.partition('/')[2]}".rstrip("/")
    setattr(request, field, missing)
    with pytest.raises(NotFound) as caught:
        await answer(client, rpc, request)
    assert missing in caught.value.message or "none" in caught.value.message
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize("rpc", RPCS)
async def test_strangers_are_told_apart(product: Product, rpc: str) -> None:
    if rpc == "AgentLink.Enroll":  # its join token stands in the request
        return
    stranger = ClientCredentials(token="made up")
    async with (
        open_channel(product.plane.address, credentials=stranger) as plane,
        open_channel(product.agent.address, credentials=stranger) as agent,
    ):
        with pytest.raises(Unauthenticated) as caught:
            await answer(Client(plane, agent), rpc, new(RPCS[rpc].input_type))
    assert caught.value.reason == "TOKEN_UNKNOWN"


async def test_an_rpc_that_was_never_there_says_who_is(client: Client) -> None:
    call: Any = client.plane.unary_unary("/keeptune.v1.SearchService/GuessTrials")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "GuessTrials is not served here" in str(caught.value.details())
