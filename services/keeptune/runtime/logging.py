"""Structured logs: JSON lines, or colours on a terminal; always on stderr.

Everywhere else: `log = structlog.get_logger()`. The ids of the request, study and retune that a
piece of work belongs to are bound once and stand on every line it logs, in every service.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TextIO
from urllib.parse import quote

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import Processor

Format = Literal["auto", "json", "pretty"]
Level = Literal["debug", "info", "warning", "error"]

# The ids that travel from service to service, in metadata `x-keeptune-<id with dashes>`.
CARRIED = ("request_id", "study", "retune")


def configure(
    *,
    level: Level = "info",
    format: Format = "auto",  # noqa: A002  (the name of the setting)
    stream: TextIO | None = None,
) -> None:
    """Sets up structlog and the standard library's logging; call it once, first of all."""
    stream = stream or sys.stderr
    pretty = format == "pretty" or (format == "auto" and stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[*common, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Line(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


class _Line(structlog.PrintLogger):
    """Prints lines. One that cannot be, since the disk is full or nobody reads, is lost: what a
    program does must not fail because it cannot be told."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


@contextmanager
def bound(
    *, request_id: str | None = None, study: str | None = None, retune: str | None = None
) -> Iterator[None]:
    """Work inside the block belongs to these; calls it makes carry them on."""
    given = {"request_id": request_id, "study": study, "retune": retune}
    with bound_contextvars(**{key: value for key, value in given.items() if value}):
        yield


def carried() -> dict[str, str]:
    """The ids bound here, as they travel."""
    context = structlog.contextvars.get_contextvars()
    return {key: printable(context[key]) for key in CARRIED if key in context}


def printable(value: str) -> str:
    """Metadata are printable ASCII: anything else is percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value)
