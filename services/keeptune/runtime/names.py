"""Resource names: the only place where they are put together and taken apart.

Ids match `[a-z0-9-]{1,63}`; trials and versions are counted, from 1. Every `parse_*` raises
`InvalidInput` naming `field`, which is where the name stood in the caller's request.
"""

from __future__ import annotations

import re
import secrets
import time

from keeptune.runtime.errors import InvalidInput

ID_PATTERN = re.compile(r"[a-z0-9-]{1,63}")
_NUMBER_PATTERN = re.compile(r"[1-9][0-9]{0,17}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str = "") -> str:
    """A random id that sorts by its time of birth (milliseconds): `prefix-` and 20 characters."""
    millis = time.time_ns() // 1_000_000
    stamp = "".join(_ALPHABET[(millis >> shift) & 31] for shift in range(45, -1, -5))
    chance = secrets.randbits(50)
    tail = "".join(_ALPHABET[(chance >> shift) & 31] for shift in range(45, -1, -5))
    return check_id(f"{prefix}-{stamp}{tail}" if prefix else stamp + tail, field="prefix")


def check_id(value: str, *, field: str = "id") -> str:
    """`value` itself, if it is an id."""
    if not ID_PATTERN.fullmatch(value):
        raise InvalidInput(
            field=field,
            problem=f"is {_shown(value)}, which is no id",
            fix="use 1 to 63 of a-z, 0-9 and -",
        )
    return value


def study_name(study: str) -> str:
    return _name("studies", study)


def parse_study(name: str, *, field: str = "name") -> str:
    return _parse("studies", "study", name, field)


def trial_name(study: str, number: int) -> str:
    return f"{study_name(study)}/trials/{_number(number)}"


def parse_trial(name: str, *, field: str = "name") -> tuple[str, int]:
    return _parse_numbered("studies", "study", "trials", "trial", name, field)


def trainer_name(trainer: str) -> str:
    return _name("trainers", trainer)


def parse_trainer(name: str, *, field: str = "name") -> str:
    return _parse("trainers", "trainer", name, field)


def training_name(training: str) -> str:
    return _name("trainings", training)


def parse_training(name: str, *, field: str = "name") -> str:
    return _parse("trainings", "training", name, field)


def evaluation_name(evaluation: str) -> str:
    return _name("evaluations", evaluation)


def parse_evaluation(name: str, *, field: str = "name") -> str:
    return _parse("evaluations", "evaluation", name, field)


def model_name(model: str) -> str:
    return _name("models", model)


def parse_model(name: str, *, field: str = "name") -> str:
    return _parse("models", "model", name, field)


def version_name(model: str, number: int) -> str:
    return f"{model_name(model)}/versions/{_number(number)}"


def parse_version(name: str, *, field: str = "name") -> tuple[str, int]:
    return _parse_numbered("models", "model", "versions", "version", name, field)


def rollout_name(rollout: str) -> str:
    return _name("rollouts", rollout)


def parse_rollout(name: str, *, field: str = "name") -> str:
    return _parse("rollouts", "rollout", name, field)


def host_name(host: str) -> str:
    return _name("hosts", host)


def parse_host(name: str, *, field: str = "name") -> str:
    return _parse("hosts", "host", name, field)


def policy_name(policy: str) -> str:
    return _name("policies", policy)


def parse_policy(name: str, *, field: str = "name") -> str:
    return _parse("policies", "policy", name, field)


def retune_name(retune: str) -> str:
    return _name("retunes", retune)


def parse_retune(name: str, *, field: str = "name") -> str:
    return _parse("retunes", "retune", name, field)


def _name(collection: str, identifier: str) -> str:
    return f"{collection}/{check_id(identifier)}"


def _number(number: int) -> int:
    if number < 1:
        raise InvalidInput(field="number", problem=f"is {number}", fix="count from 1")
    return number


def _parse(collection: str, noun: str, name: str, field: str) -> str:
    head, _, identifier = name.partition("/")
    if head != collection or not ID_PATTERN.fullmatch(identifier):
        raise _wrong(name, f"{collection}/{{{noun}}}", field)
    return identifier


def _parse_numbered(
    collection: str, noun: str, child: str, child_noun: str, name: str, field: str
) -> tuple[str, int]:
    parts = name.split("/")
    if (
        len(parts) != 4
        or (parts[0], parts[2]) != (collection, child)
        or not ID_PATTERN.fullmatch(parts[1])
        or not _NUMBER_PATTERN.fullmatch(parts[3])
    ):
        raise _wrong(name, f"{collection}/{{{noun}}}/{child}/{{{child_noun}}}", field)
    return parts[1], int(parts[3])


def _wrong(name: str, form: str, field: str) -> InvalidInput:
    return InvalidInput(
        field=field, problem=f"is {_shown(name)}", fix=f"give a name of the form {form}"
    )


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
