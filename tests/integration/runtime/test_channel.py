"""Clients outlive their servers: retries, reconnection, deadlines and the ids they carry."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from keeptune.runtime import logging
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import calling, open_channel, open_sync_channel
from keeptune.runtime.errors import DeadlineExceeded, Unavailable, typed_errors
from keeptune.v1 import search_pb2, search_pb2_grpc
from tests.integration.runtime.conftest import free_port, running_server

Get = search_pb2.GetStudyRequest


async def test_an_unavailable_call_is_repeated_by_the_service_config(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    running.servicer.failures_left = 2
    assert (await stub.GetStudy(Get(name="studies/flaky"))).name == "studies/flaky"
    assert running.servicer.seen == ["studies/flaky"] * 3


async def test_other_errors_are_not_repeated(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    with pytest.raises(Exception, match="does not exist"):
        await stub.GetStudy(Get(name="studies/missing"))
    assert running.servicer.seen == ["studies/missing"]


async def test_calls_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    """One that was under way is repeated, later ones wait for the new server."""
    listen = f"127.0.0.1:{free_port()}"
    async with running_server(tmp_path, listen=listen) as first:
        channel = open_channel(listen, credentials=first.credentials())
        stub: Any = search_pb2_grpc.SearchServiceStub(channel)
        await stub.GetStudy(Get(name="studies/a"))
        under_way = asyncio.ensure_future(stub.GetStudy(Get(name="studies/slow")))
        await first.servicer.entered.wait()
        await first.server.stop(0)
    waiting = asyncio.ensure_future(stub.GetStudy(Get(name="studies/b")))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with running_server(tmp_path, listen=listen) as second:
        second.servicer.go_on.set()
        began = time.monotonic()
        assert (await waiting).name == "studies/b"
        assert (await under_way).name == "studies/slow"
        assert time.monotonic() - began < 5
        assert sorted(second.servicer.seen) == ["studies/b", "studies/slow"]
        await channel.close()


async def test_without_waiting_a_missing_server_is_known_at_once() -> None:
    channel = open_channel(
        f"127.0.0.1:{free_port()}", credentials=ClientCredentials(), wait_for_ready=False
    )
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await calling(stub.GetStudy(Get(name="studies/a")))
    assert time.monotonic() - began < 10
    await channel.close()


async def test_unary_calls_have_a_deadline_and_streams_have_none(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub(timeout=0.2)
    with pytest.raises(DeadlineExceeded) as caught:
        await calling(stub.GetStudy(Get(name="studies/slow")))
    assert caught.value.retryable
    watch = stub.WatchStudy(search_pb2.WatchStudyRequest(study="studies/x"))
    assert watch.time_remaining() is None
    assert (await watch.read()).revision == 1
    running.servicer.go_on.set()
    longer = stub.GetStudy(Get(name="studies/slow"), timeout=5)
    assert 4 < longer.time_remaining() <= 5
    await longer


async def test_ids_are_carried_from_service_to_service(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    with logging.bound(request_id="r1", study="studies/x", retune="retunes/y"):
        await stub.GetStudy(Get(name="studies/a"))
    await stub.GetStudy(Get(name="studies/a"), metadata=(("x-keeptune-study", "studies/z"),))
    first, second = running.servicer.ids
    assert first == {"request_id": "r1", "study": "studies/x", "retune": "retunes/y"}
    assert second["study"] == "studies/z"
    assert "retune" not in second
    assert second["request_id"] not in ("", "r1")


async def test_a_request_tells_what_it_is_about_where_its_caller_did_not(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    await stub.GetStudy(Get(name="studies/a"))
    with logging.bound(study="studies/x"):
        await stub.GetStudy(Get(name="studies/a"))
    assert [each["study"] for each in running.servicer.ids] == ["studies/a", "studies/x"]


async def test_a_synchronous_channel_does_the_same(run_server: Any) -> None:
    running = await run_server()

    def work() -> None:
        with open_sync_channel(
            running.server.address, credentials=running.credentials(), timeout=5
        ) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            running.servicer.failures_left = 1
            assert stub.GetStudy(Get(name="studies/flaky")).name == "studies/flaky"
            future = stub.GetStudy.future(Get(name="studies/b"))
            assert future.result(timeout=5).name == "studies/b"
            answer, _ = stub.GetStudy.with_call(Get(name="studies/c"))
            assert answer.name == "studies/c"
            events = stub.WatchStudy(search_pb2.WatchStudyRequest(study="studies/x"))
            assert next(iter(events)).revision == 1
            with pytest.raises(Exception, match="does not exist"), typed_errors():
                stub.GetStudy(Get(name="studies/missing"))

    await asyncio.to_thread(work)


async def test_messages_over_four_mebibytes_are_refused(run_server: Any) -> None:
    stub = await (await run_server()).stub()
    name = "studies/" + "x" * (5 << 20)
    with pytest.raises(Exception, match="larger than max"):
        await calling(stub.GetStudy(Get(name=name)))
