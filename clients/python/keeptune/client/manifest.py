"""YAML files to messages: a file is the message's JSON form, a little more forgiving.

Enums may be written short and in lower case (`task: classification`), durations with units
(`10m`), names as ids (`name: digits`), and paths of datasets relative to the file. What is unknown
or of the wrong type is an error that names the place and the near misses.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from keeptune.runtime.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=Message)

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_OPAQUE = ("google.protobuf.Timestamp", "google.protobuf.FieldMask")


def load(source: Path | Mapping[str, Any], type_: type[M]) -> M:
    """The message that a YAML (or JSON) file, or a mapping, describes.

    Raises InvalidInput with every problem found, each with its place in the file.
    """
    if isinstance(source, Path):
        content, lines, problems = _read(source)
        base = source.parent
    else:
        content, lines, problems, base = dict(source), {}, [], Path.cwd()
    descriptor = cast("Descriptor", type_.DESCRIPTOR)
    clean = _message(content, descriptor, "", base, problems)
    if not problems:
        try:
            return json_format.ParseDict(clean, type_())
        except json_format.ParseError as error:
            problems.append(Violation("", str(error)))
    raise InvalidInput.many(
        (_located(problem, source, lines) for problem in problems), reason="INVALID_MANIFEST"
    )


def take_id(message: Message, collection: str) -> str:
    """The id in a message's `name` ("" = none), which is cleared: a service draws or joins it."""
    name: str = getattr(message, "name")  # noqa: B009  (not every message has one)
    message.ClearField("name")
    return name.removeprefix(f"{collection}/")


def _read(file: Path) -> tuple[dict[str, Any], dict[str, int], list[Violation]]:
    """The content, the line of each place in it, and what YAML itself would let pass."""
    try:
        text = file.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise InvalidInput(
            field=str(file),
            problem="is not YAML: it is no text",
            fix="give the manifest itself, e.g. policy.yaml",
            reason="INVALID_MANIFEST",
        ) from None
    except OSError as error:
        raise InvalidInput(
            field=str(file), problem=f"cannot be read: {error}", reason="INVALID_MANIFEST"
        ) from None
    except yaml.YAMLError as error:
        raise InvalidInput(
            field=str(file), problem=f"is not YAML: {error}", reason="INVALID_MANIFEST"
        ) from None
    if not isinstance(content, dict):
        raise InvalidInput(
            field=str(file),
            problem="is no mapping",
            fix="begin with e.g. `name: digits`",
            reason="INVALID_MANIFEST",
        )
    lines: dict[str, int] = {}
    repeated: list[Violation] = []
    _note_lines(node, "", lines, repeated)
    return content, lines, repeated


def _note_lines(
    node: yaml.Node | None, path: str, lines: dict[str, int], repeated: list[Violation]
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = f"{path}.{key.value}" if path else str(key.value)
            if place in lines:
                repeated.append(Violation(place, "is given twice", "leave one out"))
            lines[place] = key.start_mark.line + 1
            _note_lines(value, place, lines, repeated)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            place = f"{path}[{index}]"
            lines[place] = item.start_mark.line + 1
            _note_lines(item, place, lines, repeated)


def _located(problem: Violation, source: object, lines: Mapping[str, int]) -> Violation:
    if problem.field not in lines:
        return problem
    place = f"({Path(str(source)).name}, line {lines[problem.field]})"
    return Violation(problem.field, f"{problem.problem} {place}", problem.fix)


def _message(
    content: Any, descriptor: Descriptor, path: str, base: Path, problems: list[Violation]
) -> Any:
    if descriptor.full_name == "google.protobuf.Duration":
        return _duration(content, path, problems)
    if descriptor.full_name in _OPAQUE:
        return content
    if descriptor.full_name == "keeptune.v1.ParameterValue" and not isinstance(content, dict):
        return _parameter_value(content)
    if not isinstance(content, dict):
        problems.append(Violation(path, f"is {content!r}", "give a mapping"))
        return {}
    clean: dict[str, Any] = {}
    fields = descriptor.fields_by_name
    for key, value in content.items():
        place = f"{path}.{key}" if path else str(key)
        field = fields.get(str(key))
        if field is None:
            near = difflib.get_close_matches(str(key), fields, n=3, cutoff=0.6)
            fix = f"did you mean {' or '.join(near)}?" if near else f"use {', '.join(fields)}"
            problems.append(Violation(place, "is an unknown field", fix))
            continue
        if value is None:
            # `asha:` alone asks for the defaults of what it names.
            if field.message_type and not field.is_repeated:
                clean[str(key)] = {}
            continue
        clean[str(key)] = _field(value, field, place, base, problems)
    if descriptor.full_name == "keeptune.v1.Dataset" and isinstance(clean.get("uri"), str):
        clean["uri"] = _resolved(clean["uri"], base)
    return clean


def _field(
    value: Any, field: FieldDescriptor, place: str, base: Path, problems: list[Violation]
) -> Any:
    if field.message_type and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            problems.append(Violation(place, f"is {value!r}", "give a mapping"))
            return {}
        of = field.message_type.fields_by_name["value"]
        return {
            str(key): _single(each, of, f"{place}.{key}", base, problems)
            for key, each in value.items()
        }
    if field.is_repeated:
        if not isinstance(value, list):
            problems.append(Violation(place, f"is {value!r}", "give a list"))
            return []
        return [
            _single(each, field, f"{place}[{index}]", base, problems)
            for index, each in enumerate(value)
        ]
    return _single(value, field, place, base, problems)


def _single(
    value: Any, field: FieldDescriptor, place: str, base: Path, problems: list[Violation]
) -> Any:
    if field.message_type:
        return _message(value, field.message_type, place, base, problems)
    if field.enum_type:
        return _enum(value, field.enum_type, place, problems)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if isinstance(value, dict | list):
            problems.append(Violation(place, f"is {value!r}", "give text"))
            return ""
        return value if isinstance(value, str) else _text(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            problems.append(Violation(place, f"is {value!r}", "give true or false"))
            return False
        return value
    return _number(value, field, place, problems)


def _number(value: Any, field: FieldDescriptor, place: str, problems: list[Violation]) -> Any:
    # YAML reads 1e-5 as text.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            problems.append(Violation(place, f"is {value!r}", "give a number"))
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        problems.append(Violation(place, f"is {value!r}", "give a number"))
        return 0
    whole = field.cpp_type not in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
    if whole and value != int(value):
        problems.append(Violation(place, f"is {value!r}", "give a whole number"))
        return 0
    return int(value) if whole else value


def _enum(value: Any, enum: EnumDescriptor, place: str, problems: list[Violation]) -> str:
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    text = str(value).upper().replace("-", "_")
    full = text if text.startswith(prefix) else prefix + text
    if full in enum.values_by_name and full != f"{prefix}UNSPECIFIED":
        return full
    known = [v.name.removeprefix(prefix).lower() for v in enum.values[1:]]
    problems.append(Violation(place, f"is {value!r}", f"use one of {', '.join(known)}"))
    return enum.values[0].name


def _duration(value: Any, place: str, problems: list[Violation]) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return f"{value:g}s"
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        problems.append(Violation(place, f"is {value!r}", "give e.g. 30s, 10m or 2h"))
        return "0s"
    return f"{float(match[1]) * _UNITS[match[2]]:.9g}s"


def _parameter_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, int):
        return {"int_value": value}
    if isinstance(value, float):
        return {"double_value": value}
    return {"string_value": str(value)}


def _resolved(uri: str, base: Path) -> str:
    if "://" in uri or Path(uri).is_absolute():
        return uri
    return str((base / uri).absolute())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
