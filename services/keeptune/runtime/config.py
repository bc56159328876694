"""Typed settings: defaults, then a YAML file, then the environment; each value's origin is known.

A file has one section for each program; `KEEPTUNE_<SECTION>__<KEY>` overrides a key, and further
`__` go down into nested settings. What is unknown is an error that names the near misses.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from keeptune.runtime.errors import InvalidInput, Violation

S = TypeVar("S", bound="Settings")

_PREFIX = "KEEPTUNE_"
_SEPARATOR = "__"


class Settings(BaseModel):
    """The base of all settings: frozen, and no key is taken that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings and where each came from: dotted key to `default`, `FILE line N` or a variable."""

    value: S
    origins: Mapping[str, str]


class TlsSettings(Settings):
    """PEM files. With `client_ca`, callers must show a certificate signed by it."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class ServerSettings(Settings):
    """How a program is reached.

    `listen` is host:port (port 0: any free one); beyond the loopback it needs `tls`.
    `tokens_file` defaults to `credentials` in the data folder, which is made at the first start.
    `metrics_listen`, if set, answers HTTP `GET /metrics`. `registry_public_key` is the file
    registry.pub of the deployment service: with it, hosts are recognised by their own credentials
    on other servers, too.
    """

    listen: str = "127.0.0.1:0"
    tls: TlsSettings | None = None
    tokens_file: Path | None = None
    registry_public_key: Path | None = None
    reflection: bool = False
    drain_seconds: float = 10.0
    metrics_listen: str = ""


def load(
    model: type[S],
    *,
    file: Path | None,
    env: Mapping[str, str],
    section: str,
    sections: Collection[str] | None = None,
) -> Loaded[S]:
    """The settings of one section.

    `sections`, if given, are all that the file may have. Raises InvalidInput for a file that is
    missing or no YAML, and for every unknown key and wrong value at once.
    """
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    if file is not None:
        values = _from_file(file, section, sections, origins)
    _overlay(values, _from_env(env, section, origins))
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise InvalidInput.many(
            (_violation(model, section, origins, detail) for detail in error.errors()),
            reason="INVALID_CONFIG",
        ) from None
    return Loaded(settings, {key: origins.get(key, "default") for key in _keys(settings)})


def _from_file(
    file: Path, section: str, sections: Collection[str] | None, origins: dict[str, str]
) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            root = yaml.compose(stream, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InvalidInput(
            field="config", problem=f"cannot be read: {file}: {error.strerror}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(field="config", problem=f"is no YAML: {file}: {error}") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise InvalidInput(
            field="config", problem=f"{file} is no mapping", fix=f"begin with `{section}:`"
        )
    found: dict[str, Any] = {}
    for key, node in _entries(root, file):
        if sections is not None and key not in sections:
            raise InvalidInput(
                field=key,
                problem=f"is an unknown section ({file} line {node.start_mark.line + 1})",
                fix=_choice(key, sections),
                reason="INVALID_CONFIG",
            )
        if key == section:
            found = _values(node, file, "", origins) or {}
    if not isinstance(found, dict):
        raise InvalidInput(field=section, problem=f"is no mapping in {file}")
    return found


def _values(node: yaml.Node, file: Path, path: str, origins: dict[str, str]) -> Any:
    """The plain value of a node, noting the line of each key."""
    if path:
        origins[path] = f"{file} line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        return {
            key: _values(child, file, f"{path}.{key}" if path else key, origins)
            for key, child in _entries(node, file)
        }
    constructor = yaml.SafeLoader("")
    return constructor.construct_object(node, deep=True)


def _entries(node: yaml.MappingNode, file: Path) -> Iterator[tuple[str, yaml.Node]]:
    seen = set()
    for key_node, child in node.value:
        key = str(key_node.value)
        if key in seen:
            raise InvalidInput(
                field=key,
                problem=f"stands twice ({file} line {key_node.start_mark.line + 1})",
                fix="keep one of them",
                reason="INVALID_CONFIG",
            )
        seen.add(key)
        yield key, child


def _from_env(env: Mapping[str, str], section: str, origins: dict[str, str]) -> dict[str, Any]:
    prefix = f"{_PREFIX}{section.upper()}{_SEPARATOR}"
    values: dict[str, Any] = {}
    for name in sorted(env):
        if not name.startswith(prefix):
            continue
        path = name[len(prefix) :].lower().split(_SEPARATOR)
        place = values
        for part in path[:-1]:
            place = place.setdefault(part, {})
        text = env[name]
        place[path[-1]] = yaml.safe_load(text) if text[:1] in ("[", "{") else text
        for key in _paths(".".join(path), place[path[-1]]):
            origins[key] = name
    return values


def _paths(path: str, value: Any) -> Iterator[str]:
    """The dotted keys of a value and of all below it."""
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(f"{path}.{key}", child)


def _overlay(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _overlay(values[key], value)
        else:
            values[key] = value


def _violation(
    model: type[Settings], section: str, origins: Mapping[str, str], detail: Any
) -> Violation:
    path = ".".join(str(part) for part in detail["loc"])
    origin = _origin(path, origins)
    where = f" ({origin})" if origin else ""
    if detail["type"] == "extra_forbidden":
        *parents, key = (str(part) for part in detail["loc"])
        fix = _choice(key, _known_keys(model, parents))
        return Violation(f"{section}.{path}", f"is an unknown key{where}", fix)
    if detail["type"] == "missing":
        return Violation(f"{section}.{path}", "is missing", f"set it in section {section}")
    return Violation(f"{section}.{path}", f"is wrong{where}", str(detail["msg"]))


def _choice(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"use one of {', '.join(sorted(known))}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        nested = _nested_model(field.annotation) if field else None
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType):
        found = (_nested_model(member) for member in get_args(annotation))
        return next(filter(None, found), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _keys(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Where a value, or what it is a part of, came from."""
    while path not in origins and "." in path:
        path = path.rpartition(".")[0]
    return origins.get(path, "")
