"""Answers on standard output: JSON for programs, tables and YAML for people.

Only what was asked for goes there; progress and remarks go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

Column = tuple[str, Callable[[Any], str]]

_COLOURS = {
    "green": ("SUCCEEDED", "COMPLETED", "CONNECTED", "PASSED", "DONE"),
    "red": ("FAILED", "REJECTED", "ROLLED_BACK", "AWAY", "INFEASIBLE"),
    "yellow": ("PAUSED", "AWAITING_APPROVAL", "ROLLING_BACK", "CANCELLED", "STOPPED", "PRUNED"),
    "cyan": ("RUNNING", "ACTIVE", "SEARCHING", "ROLLING_OUT", "BAKING", "EVALUATING"),
}
_COLOUR_OF = {state: colour for colour, states in _COLOURS.items() for state in states}


def print_json(data: Any) -> None:
    """One value, for people to read too."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_json_line(data: Any) -> None:
    """One value of many, on a line of its own."""
    click.echo(json.dumps(data, ensure_ascii=False))


def print_message(message: Message, *, as_json: bool) -> None:
    """A whole resource: as JSON, or as YAML with short names of states."""
    from keeptune.client.resources import as_data

    if as_json:
        print_json(as_data(message))
        return
    import yaml

    plain = _without_prefixes(as_data(message), message.DESCRIPTOR)
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())


def print_table(rows: Iterable[Any], columns: Sequence[Column]) -> None:
    """Aligned columns, as wide as they need to be; nothing is cut off."""
    table = [[header for header, _ in columns]]
    table += [[text(row) or "-" for _, text in columns] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    coloured = sys.stdout.isatty()
    for number, cells in enumerate(table):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        if coloured:
            padded = [
                click.style(text, bold=True) if number == 0 else colour(cell, text)
                for cell, text in zip(cells, padded, strict=True)
            ]
        click.echo("  ".join(padded).rstrip())


def colour(state: str, text: str) -> str:
    """`text` in the colour that a state has everywhere."""
    found = _COLOUR_OF.get(state)
    return click.style(text, fg=found) if found else text


def note(text: str) -> None:
    """A remark for people."""
    click.echo(text, err=True)


def state(field: str = "state") -> Callable[[Any], str]:
    """A column's text: a short enum name."""

    def text(message: Message) -> str:
        from keeptune.client.results import enum_name

        return enum_name(message, field).replace("UNSPECIFIED", "")

    return text


def age(stamp: Timestamp, now: datetime | None = None) -> str:
    """How long ago: 12s, 5m, 3h, 2d; empty when unset."""
    if not stamp.seconds:
        return ""
    seconds = int(((now or datetime.now(UTC)) - stamp.ToDatetime(tzinfo=UTC)).total_seconds())
    return span(timedelta(seconds=max(0, seconds)))


def clock_time(stamp: Timestamp) -> str:
    """The time of day here: 18:36:13."""
    return f"{stamp.ToDatetime(tzinfo=UTC).astimezone():%H:%M:%S}"


def span(value: timedelta) -> str:
    """A duration in its largest unit."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def created(message: Any) -> str:
    """A column's text: the age of a resource."""
    return age(message.metadata.create_time)


def metrics(measurement: Any) -> str:
    """A column's text: final values."""
    return " ".join(f"{key}={value:.5g}" for key, value in sorted(measurement.metrics.items()))


def parameters(messages: Any) -> str:
    """A column's text: the parameters of a trial."""
    from keeptune.client.values import parameters as plain

    return " ".join(
        f"{key}={value:.5g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in plain(messages).items()
    )


def _without_prefixes(data: Any, descriptor: Any) -> Any:
    """TRIAL_STATE_RUNNING becomes RUNNING."""
    if not isinstance(data, dict) or descriptor.file.package.startswith("google."):
        return data
    plain = {}
    for key, value in data.items():
        field = descriptor.fields_by_name[key]
        plain[key] = _plain(value, field)
    return plain


def _plain(value: Any, field: Any) -> Any:
    if field.message_type and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {key: _plain(each, of) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain_one(each, field) for each in value]
    return _plain_one(value, field)


def _plain_one(value: Any, field: Any) -> Any:
    if field.message_type:
        return _without_prefixes(value, field.message_type)
    if field.enum_type and isinstance(value, str):
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return value.removeprefix(prefix)
    # JSON writes 64-bit numbers as text.
    if isinstance(value, str) and field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return int(value)
    return value
