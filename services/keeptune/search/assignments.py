"""Assignments as JSON text, as they are kept."""

from __future__ import annotations

import json

from keeptune.search.domains import Value
from keeptune.search.graphs import values
from keeptune.search.space import Assignment


def encode(parameters: Assignment) -> str:
    return _encoder.encode(dict(parameters))


def decode(text: str) -> dict[str, Value]:
    found: dict[str, Value] = json.loads(text)
    # Only graphs are objects within the object.
    if "{" in text[1:]:
        for name, value in found.items():
            if isinstance(value, dict):
                found[name] = values.from_plain(value)
    return found


def _plain(value: object) -> object:
    if isinstance(value, values.Graph):
        return values.to_plain(value)
    raise TypeError(f"{value!r} is no value of a parameter")


_encoder = json.JSONEncoder(default=_plain)
