"""Lists of the product: pages, filters, orders, and what is wrong with any of them."""

from __future__ import annotations

from typing import Any

import pytest

from keeptune.runtime.calls import calling
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import search_pb2, types_pb2
from tests.contract.product import ONE_PRODUCT, Client
from tests.contract.reads import READS
from tests.contract.test_rules import CATALOGS, LISTS
from tests.contract.world import World

pytestmark = list(ONE_PRODUCT)


def items_of(page: Any) -> list[Any]:
    (field,) = (each for each in page.DESCRIPTOR.fields if each.is_repeated)
    return list(getattr(page, field.name))


@pytest.mark.parametrize("rpc", LISTS)
async def test_one_at_a_time_it_is_the_same_list(client: Client, world: World, rpc: str) -> None:
    request = READS[rpc](world)
    call = client.method(rpc)
    request.page_size = 1000
    whole = items_of(await calling(call(request)))[:4]
    request.page_size = 1
    for expected in whole:
        page = await calling(call(request))
        (item,) = items_of(page)
        assert item.name == expected.name
        request.page_token = page.next_page_token


@pytest.mark.parametrize("rpc", LISTS)
async def test_a_wrong_page_names_its_field(client: Client, world: World, rpc: str) -> None:
    for field, value in (("page_size", -1), ("page_token", "junk"), ("page_token", "W10=")):
        request = READS[rpc](world)
        setattr(request, field, value)
        with pytest.raises(InvalidInput) as caught:
            await calling(client.method(rpc)(request))
        assert caught.value.field == field


@pytest.mark.parametrize("rpc", sorted(set(LISTS) - CATALOGS))
async def test_unknown_fields_in_a_filter_or_order_are_named(
    client: Client, world: World, rpc: str
) -> None:
    for field, value in (
        ("filter", "colour = red"),
        ("filter", 'name = "x" AND'),
        ("filter", "create_time > yesterday"),
        ("filter", "(" * 5000),
        ("order_by", "colour"),
        ("order_by", "name sideways"),
    ):
        request = READS[rpc](world)
        setattr(request, field, value)
        with pytest.raises(InvalidInput) as caught:
            await calling(client.method(rpc)(request))
        assert caught.value.field == field
        assert caught.value.violations[0].fix


@pytest.mark.parametrize("rpc", sorted(set(LISTS) - CATALOGS - {"SearchService.ListTrials"}))
async def test_the_server_filters_and_orders(client: Client, world: World, rpc: str) -> None:
    request = READS[rpc](world)
    request.order_by = "name desc"
    found = items_of(await calling(client.method(rpc)(request)))
    names = [each.name for each in found]
    assert names == sorted(names, reverse=True)
    request.filter = f'name = "{names[0]}" AND create_time > "2026-01-01T00:00:00Z"'
    (only,) = items_of(await calling(client.method(rpc)(request)))
    assert only.name == names[0]
    request.filter = f'name != "{names[0]}"'
    others = items_of(await calling(client.method(rpc)(request)))
    assert [each.name for each in others] == names[1:]


async def test_a_page_has_at_most_a_thousand(client: Client) -> None:
    study = search_pb2.Study(
        space=types_pb2.SearchSpace(
            parameters=[
                types_pb2.ParameterSpec(name="x", int_range=types_pb2.IntRange(min=0, max=9999))
            ]
        ),
        metrics=[search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)],
        algorithm=search_pb2.Algorithm(name="random"),
        budget=search_pb2.Budget(max_trials=5000),
    )
    create = search_pb2.CreateStudyRequest(study_id="long", study=study)
    await calling(client.method("SearchService.CreateStudy")(create))
    for start in (0, 1000):
        known = [
            search_pb2.Trial(
                state=search_pb2.TRIAL_STATE_COMPLETED,
                parameters={"x": types_pb2.ParameterValue(int_value=start + i)},
                final_measurement=types_pb2.Measurement(metrics={"loss": start + i}),
            )
            for i in range(1000 if start == 0 else 5)
        ]
        add = search_pb2.AddTrialsRequest(study="studies/long", trials=known)
        await calling(client.method("SearchService.AddTrials")(add))
    call = client.method("SearchService.ListTrials")
    request = search_pb2.ListTrialsRequest(parent="studies/long")
    assert len((await calling(call(request))).trials) == 50
    request.page_size = 1_000_000
    page = await calling(call(request))
    request.page_token = page.next_page_token
    rest = await calling(call(request))
    assert (len(page.trials), len(rest.trials), rest.next_page_token) == (1000, 5, "")
    await calling(
        client.method("SearchService.DeleteStudy")(
            search_pb2.DeleteStudyRequest(name="studies/long")
        )
    )
