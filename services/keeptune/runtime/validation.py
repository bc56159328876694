"""The constraints that stand in the protos, held at the door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message
from protovalidate import Validator

from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.runtime.wellformed import problems

if TYPE_CHECKING:
    from protovalidate import Violation as Found

_validator = Validator()


def validate(message: Message) -> None:
    """Raises InvalidInput with every constraint of its proto that the message breaks."""
    malformed = list(problems(message))
    if malformed:
        raise InvalidInput.many(malformed, reason="MALFORMED_VALUE")
    found = _validator.collect_violations(message)
    if found:
        raise InvalidInput.many((_violation(each) for each in found), reason="CONSTRAINT_VIOLATED")


def _violation(found: Found) -> Violation:
    if found.proto.rule_id == "required":
        return Violation(_path(found), "is not set", "set it")
    rule = found.proto.message.removeprefix("value ")
    fix = rule.replace("does not match regex pattern", "it must match") if rule else "mend it"
    return Violation(_path(found), f"is {_shown(found.field_value)}", fix)


def _path(found: Found) -> str:
    """E.g. `study.space.parameters[2].conditions[0].parent` or `labels["team"]`."""
    path = ""
    for element in found.proto.field.elements if found.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is None:
            continue
        path += f"[{subscript.value!r}]"
    return path


def _shown(value: object) -> str:
    if isinstance(value, str | int | float | bool):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "..."
    return "not as it must be"
