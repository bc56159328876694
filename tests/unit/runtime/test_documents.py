import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum

import pytest

from keeptune.runtime import documents
from keeptune.v1 import types_pb2


class Scale(Enum):
    LINEAR = "linear"
    LOG = "log"


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True)
class FloatRange:
    min: float
    max: float
    scale: Scale = Scale.LINEAR


@dataclass(frozen=True)
class IntRange:
    min: int
    max: int
    scale: Scale = Scale.LINEAR


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class Document:
    domain: FloatRange | IntRange
    maybe: FloatRange | IntRange | None = None
    mixed: FloatRange | Nothing | str | None = None
    many: tuple[FloatRange | IntRange, ...] = ()
    by_name: dict[str, FloatRange | IntRange] = field(default_factory=dict)
    moment: datetime | None = None
    span: timedelta | None = None
    level: Level | None = None
    blob: bytes = b""
    artifact: types_pb2.Artifact = field(default_factory=types_pb2.Artifact)
    values: dict[str, float] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


FULL = Document(
    domain=IntRange(1, 2, Scale.LOG),
    maybe=FloatRange(1, 2),
    mixed="words",
    many=(IntRange(0, 1), FloatRange(0.5, 1.5)),
    by_name={"x": IntRange(3, 4)},
    moment=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    span=timedelta(seconds=1.5),
    level=Level.LOW,
    blob=bytes(range(256)),
    artifact=types_pb2.Artifact(sha256="ab", size_bytes=1 << 40),
    values={"loss": 0.1},
    names=frozenset({"a", "b"}),
)


@pytest.mark.parametrize(
    "document",
    [FULL, Document(FloatRange(0, 1)), Document(FloatRange(0, 1), mixed=Nothing())],
)
def test_documents_there_and_back(document: Document) -> None:
    text = documents.encode(document)
    back = documents.decode(text, Document)
    assert back == document
    assert type(back.domain) is type(document.domain)
    assert [type(each) for each in back.many] == [type(each) for each in document.many]


def test_equal_members_of_a_union_are_told_apart() -> None:
    both: type = FloatRange | IntRange  # type: ignore[assignment]
    text = documents.encode(IntRange(1, 2), both)
    assert json.loads(text)["_type"] == "IntRange"
    assert documents.decode(text, both) == IntRange(1, 2)


def test_older_documents_get_the_defaults_of_newer_fields() -> None:
    old = '{"domain": {"_type": "IntRange", "min": 1, "max": 2}, "gone": 5}'
    assert documents.decode(old, Document) == Document(IntRange(1, 2))
