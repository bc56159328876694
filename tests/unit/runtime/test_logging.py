import io
import json
import logging as standard
from collections.abc import Iterator

import pytest
import structlog

from keeptune.runtime import logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    yield stream
    logging.configure(level="warning")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_ids_bound_around_it(stream: io.StringIO) -> None:
    logging.configure(stream=stream)
    log = structlog.get_logger()
    with logging.bound(request_id="r", study="studies/x"):
        log.info("hello", count=3)
        assert logging.carried() == {"request_id": "r", "study": "studies/x"}
    log.info("bye")
    first, second = lines(stream)
    assert first["event"] == "hello"
    assert (first["request_id"], first["study"], first["count"]) == ("r", "studies/x", 3)
    assert first["level"] == "info"
    assert str(first["timestamp"]).endswith("Z")
    assert "study" not in second
    assert logging.carried() == {}


def test_levels_are_kept(stream: io.StringIO) -> None:
    logging.configure(level="warning", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_tracebacks_stand_in_the_line(stream: io.StringIO) -> None:
    logging.configure(stream=stream)
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError as error:
        structlog.get_logger().error("failed", exc_info=error)
    (line,) = lines(stream)
    assert "ZeroDivisionError: oh" in str(line["exception"])


def test_libraries_log_the_same_way(stream: io.StringIO) -> None:
    logging.configure(stream=stream)
    standard.getLogger("some.library").warning("old %s", "style")
    (line,) = lines(stream)
    assert (line["event"], line["logger"]) == ("old style", "some.library")


def test_people_get_no_json(stream: io.StringIO) -> None:
    logging.configure(format="pretty", stream=stream)
    structlog.get_logger().info("hello", count=3)
    assert "hello" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert "\x1b" not in stream.getvalue(), "colours are for terminals"


class Full(io.StringIO):
    """As a file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_what_cannot_be_told_stops_nothing(stream: io.StringIO) -> None:
    logging.configure(stream=Full())
    log = structlog.get_logger()
    log.info("hello")
    log.error("trouble", number=1)
    logging.configure(stream=stream)
    log.error("room again")
    assert [line["event"] for line in lines(stream)] == ["room again"]
