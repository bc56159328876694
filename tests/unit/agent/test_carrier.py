"""What the carrier does to a bake when an order came between the look and the deed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from keeptune.agent.carrier import Carrier
from keeptune.agent.host_store import Bake, HostStore
from keeptune.agent.repository import ModelRepository
from keeptune.runtime.clock import ManualClock

JUDGED = Bake(version=2, previous=1, start=100.0, until=160.0)
BEGUN_SINCE = Bake(version=3, previous=2, start=161.0, until=221.0)


@pytest.mark.parametrize("under_way", [JUDGED, BEGUN_SINCE, None])
async def test_only_the_bake_that_was_judged_is_ended(
    tmp_path: Path, under_way: Bake | None
) -> None:
    unused = cast("Any", None)
    store = HostStore(tmp_path / "store")
    store.put_record("digits", replace(store.record("digits"), bake=under_way))
    (tmp_path / "repository").mkdir()
    carrier = Carrier(
        repository=ModelRepository(tmp_path / "repository"),
        updater=unused,
        health=unused,
        store=store,
        fetcher=unused,
        clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        example=lambda _: {},
        changed=lambda _: None,
    )
    if under_way is not JUDGED:
        assert not await carrier.go_back("digits", JUDGED, "it was slow")
    await carrier.end_bake("digits", JUDGED)
    assert store.record("digits").bake == (None if under_way is JUDGED else under_way)
