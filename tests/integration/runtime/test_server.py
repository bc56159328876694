"""What callers see of a server: answers, errors with details, tokens, health, reflection, TLS."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import google.rpc.error_details_pb2 as details_pb2
import google.rpc.status_pb2 as status_pb2
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from keeptune.runtime import logging
from keeptune.runtime.auth import ClientCredentials, Role, Tokens
from keeptune.runtime.channel import calling
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.errors import (
    Conflict,
    FailedPrecondition,
    Internal,
    InvalidInput,
    KeeptuneError,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Violation,
    from_rpc_error,
)
from keeptune.runtime.server import Server
from keeptune.v1 import search_pb2

Get = search_pb2.GetStudyRequest
Watch = search_pb2.WatchStudyRequest


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logging.configure(level="info", format="json", stream=stream)
    yield stream
    logging.configure(level="warning")


async def failure(call: Any) -> KeeptuneError:
    with pytest.raises(KeeptuneError) as caught:
        await calling(call)
    return caught.value


async def test_a_call_is_answered(run_server: Any) -> None:
    stub = await (await run_server()).stub()
    assert (await stub.GetStudy(Get(name="studies/x"))).name == "studies/x"


async def test_errors_come_typed_with_their_details(run_server: Any) -> None:
    stub = await (await run_server()).stub(wait_for_ready=False)
    missing = await failure(stub.GetStudy(Get(name="studies/missing")))
    assert isinstance(missing, NotFound)
    assert (missing.reason, missing.metadata) == ("NOT_FOUND", {"name": "studies/missing"})
    stale = await failure(stub.GetStudy(Get(name="studies/stale")))
    assert isinstance(stale, Conflict)
    assert stale.fix == "read it again"
    wrong = await failure(stub.GetStudy(Get(name="studies/wrong")))
    assert isinstance(wrong, InvalidInput)
    assert wrong.reason == "EMPTY_RANGE"
    assert wrong.violations == (
        Violation("study.space.parameters[2].min", "is above max", "swap them"),
        Violation("study.seed", "is negative"),
    )
    later = await failure(stub.GetStudy(Get(name="studies/later")))
    assert isinstance(later, Unavailable)
    assert later.retry_after == 1.5
    by_hand = await failure(stub.GetStudy(Get(name="studies/aborted")))
    assert by_hand.message == "by hand"


async def test_details_are_google_rpc_messages(run_server: Any) -> None:
    """As clients in other languages read them."""
    stub = await (await run_server()).stub()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetStudy(Get(name="studies/wrong"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (3, caught.value.details())
    info, bad = details_pb2.ErrorInfo(), details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("EMPTY_RANGE", "keeptune")
    assert [(each.field, each.description) for each in bad.field_violations] == [
        ("study.space.parameters[2].min", "is above max; fix: swap them"),
        ("study.seed", "is negative"),
    ]


async def test_constraints_of_the_protos_are_held_at_the_door(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    error = await failure(stub.GetStudy(Get(name="trainings/x")))
    assert isinstance(error, InvalidInput)
    assert (error.field, error.reason) == ("name", "CONSTRAINT_VIOLATED")
    assert "studies/" in error.violations[0].fix
    request = search_pb2.CreateStudyRequest(request_id="x" * 300)
    parameter = request.study.space.parameters.add(name="1x")
    parameter.conditions.add()
    error = await failure(stub.CreateStudy(request))
    assert {violation.field for violation in error.violations} >= {
        "request_id",
        "study.space.parameters[0].name",
        "study.space.parameters[0].domain",
        "study.space.parameters[0].conditions[0].parent",
    }
    assert all(violation.fix for violation in error.violations)
    assert running.servicer.seen == []


async def test_every_message_of_a_stream_is_held_against_its_constraints(run_server: Any) -> None:
    stub = await (await run_server()).stub()
    suggest = search_pb2.SuggestTrialsRequest(study="studies/x", worker="w")

    async def messages() -> AsyncIterator[search_pb2.WorkTrialsRequest]:
        yield search_pb2.WorkTrialsRequest(request_id="1", suggest=suggest)
        yield search_pb2.WorkTrialsRequest(request_id="2")

    call = stub.WorkTrials(messages())
    assert (await call.read()).request_id == "1"
    error = await failure(call.read())
    assert isinstance(error, InvalidInput)
    assert error.field == "message"


async def test_a_defect_is_told_by_reference_only(run_server: Any, logs: io.StringIO) -> None:
    stub = await (await run_server()).stub()
    error = await failure(stub.GetStudy(Get(name="studies/boom")))
    assert isinstance(error, Internal)
    assert "secret" not in str(error)
    assert "ZeroDivision" not in str(error)
    reference = error.metadata["reference"]
    assert reference in error.message
    entry = next(e for line in logs.getvalue().splitlines() if (e := json.loads(line)))
    assert entry["request_id"] == reference
    assert entry["level"] == "error"
    assert entry["method"] == "/keeptune.v1.SearchService/GetStudy"
    assert "ZeroDivisionError: a secret of the implementation" in entry["exception"]


async def test_a_defect_in_a_stream_is_told_after_what_came_before(run_server: Any) -> None:
    stub = await (await run_server()).stub()
    call = stub.WatchStudy(Watch(study="studies/boom"))
    assert [(await call.read()).revision, (await call.read()).revision] == [1, 2]
    error = await failure(call.read())
    assert isinstance(error, Internal)
    assert "secret" not in str(error)


async def test_what_is_not_served_says_so(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    error = await failure(stub.ListAlgorithms(search_pb2.ListAlgorithmsRequest()))
    assert isinstance(error, NotImplementedYet)
    unknown = (await running.channel()).unary_unary("/keeptune.v1.NoService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    refusal = from_rpc_error(caught.value)
    assert refusal.reason == "UNKNOWN_METHOD"
    assert "this server has keeptune.v1.SearchService" in refusal.fix


async def test_a_watch_that_its_caller_leaves_is_ended(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub()
    call = stub.WatchStudy(Watch(study="studies/x"))
    assert (await call.read()).revision == 1
    assert running.servicer.watching == 1
    call.cancel()
    async with asyncio.timeout(5):
        while running.servicer.watching:
            await asyncio.sleep(0.01)


# --- tokens --------------------------------------------------------------------


async def test_calls_without_a_known_token_are_refused(run_server: Any) -> None:
    running = await run_server()
    for token in ("", "guessed"):
        stub = await running.stub(ClientCredentials(token=token))
        error = await failure(stub.GetStudy(Get(name="studies/x")))
        assert isinstance(error, Unauthenticated)
        assert error.fix
    assert running.servicer.seen == []


@pytest.mark.parametrize(
    ("role", "reads", "stops", "suggests"),
    [
        (Role.ADMIN, True, True, True),
        (Role.OPERATOR, True, True, True),
        (Role.WORKER, True, False, True),
        (Role.AGENT, True, False, False),
        (Role.VIEWER, True, False, False),
    ],
)
async def test_roles(run_server: Any, role: Role, reads: bool, stops: bool, suggests: bool) -> None:
    running = await run_server(grants={Role.WORKER: {"SuggestTrials"}})
    stub = await running.stub(running.credentials(role))

    async def allowed(call: Any) -> bool:
        try:
            await calling(call)
        except PermissionDenied:
            return False
        except FailedPrecondition:
            return True
        return True

    assert await allowed(stub.GetStudy(Get(name="studies/x"))) is reads
    assert await allowed(stub.StopStudy(search_pb2.StopStudyRequest(name="studies/x"))) is stops
    suggest = search_pb2.SuggestTrialsRequest(study="studies/x", worker="w")
    assert await allowed(stub.SuggestTrials(suggest)) is suggests


async def test_who_may_not_is_told_who_may(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub(running.credentials(Role.VIEWER))
    error = await failure(stub.StopStudy(search_pb2.StopStudyRequest(name="studies/x")))
    assert error.reason == "ROLE_NOT_ALLOWED"
    assert "viewer" in error.message
    assert error.fix == "use a token of the role admin or operator"


async def test_a_stream_needs_a_token_too(run_server: Any) -> None:
    running = await run_server()
    stub = await running.stub(ClientCredentials())
    call = stub.WatchStudy(Watch(study="studies/x"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), Unauthenticated)
    assert running.servicer.watching == 0


# --- health, reflection, addresses -----------------------------------------------


async def test_health_needs_no_token(run_server: Any) -> None:
    running = await run_server()
    channel = await running.channel(ClientCredentials())
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", "keeptune.v1.SearchService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="keeptune.v1.SearchService"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await running.server.stop(1)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("reflection", [True, False])
async def test_reflection_is_a_choice(run_server: Any, reflection: bool) -> None:
    running = await run_server(reflection=reflection)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(await running.channel())

    async def ask() -> set[str]:
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([question]))
        answer = await call.read()
        return {service.name for service in answer.list_services_response.service}

    if reflection:
        assert "keeptune.v1.SearchService" in await ask()
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_address_is_a_clear_error(run_server: Any) -> None:
    running = await run_server()
    second = Server([], ServerSettings(listen=running.server.address), tokens=Tokens({}))
    with pytest.raises(FailedPrecondition) as caught:
        await second.start()
    assert caught.value.reason == "ADDRESS_IN_USE"
    assert running.server.address in caught.value.message


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070", "example.com:1"])
def test_beyond_the_loopback_tls_is_required(listen: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Server([], ServerSettings(listen=listen), tokens=Tokens({}))
    assert caught.value.reason == "TLS_REQUIRED"
    assert "tls.cert" in caught.value.fix


# --- draining ----------------------------------------------------------------------


async def test_draining_lets_calls_finish_and_sends_watchers_away(run_server: Any) -> None:
    running = await run_server(drain_seconds=10)
    stub = await running.stub(wait_for_ready=False)
    slow = asyncio.ensure_future(calling(stub.GetStudy(Get(name="studies/slow"))))
    await running.servicer.entered.wait()
    watch = stub.WatchStudy(Watch(study="studies/x"))
    for revision in (1, 2, 3):
        assert (await watch.read()).revision == revision
    stopping = asyncio.create_task(running.server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    away = from_rpc_error(caught.value)
    assert isinstance(away, Unavailable)
    assert away.reason == "SHUTTING_DOWN"
    assert away.retry_after
    assert not stopping.done()
    running.servicer.go_on.set()
    assert (await slow).name == "studies/slow"
    await asyncio.wait_for(stopping, 5)


async def test_draining_ends_in_time(run_server: Any) -> None:
    running = await run_server(drain_seconds=0.2)
    stub = await running.stub(wait_for_ready=False, timeout=1.0)
    stuck = asyncio.ensure_future(failure(stub.GetStudy(Get(name="studies/slow"))))
    await running.servicer.entered.wait()
    await asyncio.wait_for(running.server.stop(), 5)
    assert isinstance(await stuck, KeeptuneError)
