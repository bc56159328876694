"""The text of a `config.pbtxt`: which fields may stand in it, its name and its version policy.

The deployment service renders the text; which versions are served is the agent's alone. Only a
closed list of fields passes: others can name files, start environments or run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from keeptune.runtime.errors import InvalidInput

Platform = Literal["onnxruntime", "python"]

ALLOWED_FIELDS: Final = frozenset(
    {
        "backend",
        "dynamic_batching",
        "input",
        "instance_group",
        "max_batch_size",
        "name",
        "optimization",
        "output",
        "parameters",
        "platform",
        "version_policy",
    }
)
_PLATFORM_LINES: Final[dict[Platform, frozenset[tuple[str, str]]]] = {
    "onnxruntime": frozenset({("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")}),
    "python": frozenset({("backend", "python")}),
}
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<open>[{\[<])|(?P<close>[}\]>])|(?P<colon>:)|(?P<between>[,;])"""
    r"""|(?P<word>[A-Za-z0-9_.+-]+)"""
)
_VERSIONS = re.compile(r"versions\s*:\s*\[([\d\s,]*)\]")


@dataclass(frozen=True)
class _Field:
    name: str
    value: str
    start: int
    end: int


def check_config(config: str, platform: Platform) -> None:
    """Raises InvalidInput unless the text is well formed, allowed and for this platform."""
    fields = list(_fields(config))
    for field in fields:
        if field.name not in ALLOWED_FIELDS:
            raise _invalid(
                f"has the field {field.name!r}", f"use only {', '.join(sorted(ALLOWED_FIELDS))}"
            )
        if field.name == "parameters" and "EXECUTION_ENV_PATH" in field.value:
            raise _invalid("names an execution environment", "leave EXECUTION_ENV_PATH out")
    lines = {(f.name, f.value.strip("\"'")) for f in fields if f.name in ("platform", "backend")}
    if not lines or not lines <= _PLATFORM_LINES[platform]:
        wanted = " or ".join(f'{k}: "{v}"' for k, v in sorted(_PLATFORM_LINES[platform]))
        raise _invalid(f"is not for the platform {platform}", f"give it {wanted}")


def render_config(config: str, *, name: str, versions: Sequence[int]) -> str:
    """The text under this name and serving exactly these versions, whatever it said before."""
    kept = config_body(config)
    listed = ", ".join(str(version) for version in versions)
    return f'name: "{name}"\n{kept}\nversion_policy {{ specific {{ versions: [ {listed} ] }} }}\n'


def config_body(config: str) -> str:
    """The text without name and version policy: equal for versions that can stand side by side."""
    kept = config
    for field in reversed(list(_fields(config))):
        if field.name in ("name", "version_policy"):
            kept = kept[: field.start] + kept[field.end :]
    return "\n".join(line.rstrip() for line in kept.splitlines() if line.strip())


def served_versions(config: str) -> tuple[int, ...]:
    """The versions that a text made by `render_config` serves; empty when it names none."""
    for field in _fields(config):
        if field.name == "version_policy":
            found = _VERSIONS.search(field.value)
            return tuple(int(part) for part in found[1].split(",")) if found else ()
    return ()


def _fields(text: str) -> Iterator[_Field]:
    """The fields of the outermost message. Raises InvalidInput where it is not well formed."""
    tokens = list(_tokens(text))
    index = 0
    while index < len(tokens):
        kind, name, start, _ = tokens[index]
        if kind == "between":
            index += 1
            continue
        if kind != "word":
            raise _invalid(f"is not well formed at {name!r}", "render it as protobuf text")
        index += 1
        if index < len(tokens) and tokens[index][0] == "colon":
            index += 1
        if index >= len(tokens):
            raise _invalid(f"ends after {name!r}", "render it as protobuf text")
        first = index
        if tokens[index][0] == "open":
            index = _after_group(tokens, index)
        elif tokens[index][0] in ("word", "string"):
            index += 1
            while index < len(tokens) and tokens[index - 1][0] == tokens[index][0] == "string":
                index += 1
        else:
            raise _invalid(f"has no value for {name!r}", "render it as protobuf text")
        end = tokens[index - 1][3]
        yield _Field(name, text[tokens[first][2] : end], start, end)


def _after_group(tokens: Sequence[tuple[str, str, int, int]], index: int) -> int:
    pairs = {"{": "}", "[": "]", "<": ">"}
    open_groups: list[str] = []
    while index < len(tokens):
        kind, text, _, _ = tokens[index]
        index += 1
        if kind == "open":
            open_groups.append(pairs[text])
        elif kind == "close":
            if open_groups.pop() != text:
                raise _invalid(f"closes with a wrong {text!r}", "render it as protobuf text")
            if not open_groups:
                return index
    raise _invalid("does not close a group", "render it as protobuf text")


def _tokens(text: str) -> Iterator[tuple[str, str, int, int]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _invalid(
                f"is not well formed at {text[position : position + 20]!r}",
                "render it as protobuf text",
            )
        position = match.end()
        if match.lastgroup and match.lastgroup != "skip":
            yield match.lastgroup, match[0], match.start(), match.end()


def _invalid(problem: str, fix: str) -> InvalidInput:
    return InvalidInput(field="config", problem=problem, fix=fix, reason="BAD_MODEL_CONFIG")
