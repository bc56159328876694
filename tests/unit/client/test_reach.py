"""What a client says of a server that is not there, and of one that is silent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from keeptune.client import AsyncClient, Client, errors, reach
from keeptune.client.reach import Reach
from keeptune.runtime.channel import in_plain_words
from keeptune.v1 import search_pb2

ASKED = search_pb2.GetStudyRequest(name="studies/a")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where connections are refused: bound, so that nobody else listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_waiting_for_a_server_is_said_early_and_the_cause_at_the_end(
    nobody: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "WARN_AFTER_SECONDS", 0.1)
    async with AsyncClient(nobody, token="x", timeout=0.5) as client:
        with pytest.raises(errors.Unavailable, match="cannot be reached: connection refused") as at:
            await client.study("a")
        assert nobody in at.value.message and "keeptune dev" in at.value.fix
        # Once for many calls.
        calls = (client.study("a"), client.study("b"))
        assert len(await asyncio.gather(*calls, return_exceptions=True)) == 2
    said = [r.getMessage() for r in caplog.records if r.name == "keeptune.client"]
    assert said == [
        f"waiting for search at {nobody}: there is no connection yet; is `keeptune dev` running?"
    ]


def test_without_an_event_loop_the_cause_is_told_too(nobody: str) -> None:
    with Client(nobody, token="x", timeout=0.5) as client:
        with pytest.raises(errors.Unavailable, match="connection refused"):
            client.study("a")
        with pytest.raises(errors.Unavailable, match="connection refused"):
            client.search.GetStudy(ASKED)


def test_a_server_that_is_there_and_silent_did_not_answer_in_time(
    silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Client(silent, token="x", timeout=0.5) as client:
        with pytest.raises(errors.DeadlineExceeded):
            client.search.GetStudy(ASKED)
        with pytest.raises(errors.DeadlineExceeded):
            client.study("a")


def test_addresses_that_only_grpc_understands_are_not_looked_at() -> None:
    assert Reach("search", "unix:/run/keeptune.sock").obstacle_now() == ""


def test_the_cause_is_taken_out_of_what_grpc_says() -> None:
    raw = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: "
        "Failed to connect to remote host: Connection refused"
    )
    assert in_plain_words(raw) == "connection refused"
    assert in_plain_words("Socket closed") == "socket closed"


def test_an_authority_that_cannot_be_read_is_told_by_its_setting() -> None:
    client = Client("127.0.0.1:9", token="x", ca="/nowhere/ca.pem")
    with client, pytest.raises(errors.InvalidInput) as caught:
        client.search.GetStudy(ASKED)
    (violation,) = caught.value.violations
    assert violation.field == "ca" and "/nowhere/ca.pem" in violation.problem
    assert "services.ca" in violation.fix and "KEEPTUNE_CA" in violation.fix
