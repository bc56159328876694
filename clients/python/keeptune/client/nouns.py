"""The kinds of resources there are, and their names.

Light, since the command line needs it to say what it can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keeptune.runtime.errors import InvalidInput


@dataclass(frozen=True)
class Kind:
    """One collection.

    `service` is who has it, `message` the CamelCase name of one, `plural` that of many; `watch` is
    the field of a Watch request that names the resource ("" = cannot be watched). Resources of a
    collection with a `parent` are named below one of that.
    """

    noun: str
    collection: str
    service: str
    message: str
    plural: str
    watch: str = ""
    parent: str = ""

    def qualified(self, name: str) -> str:
        """The full name for `digits`, `models/digits`, `digits/2` or `models/digits/versions/2`.

        Raises InvalidInput when it cannot be one.
        """
        parts = name.split("/")
        if not self.parent:
            if len(parts) == 1 and parts[0]:
                return f"{self.collection}/{name}"
            if len(parts) == 2 and parts[0] == self.collection:
                return name
        else:
            above = BY_NOUN[self.parent].collection
            if len(parts) == 2 and parts[0] != above:
                return f"{above}/{parts[0]}/{self.collection}/{parts[1]}"
            if len(parts) == 4 and (parts[0], parts[2]) == (above, self.collection):
                return name
        raise _wrong("name", name, f"give {self.form}")

    @property
    def form(self) -> str:
        """What its names look like."""
        if not self.parent:
            return f"{self.collection}/{{{self.noun}}}"
        return f"{BY_NOUN[self.parent].form}/{self.collection}/{{{self.noun}}}"


KINDS = (
    Kind("study", "studies", "search", "Study", "Studies", watch="study"),
    Kind("trial", "trials", "search", "Trial", "Trials", parent="study"),
    Kind("trainer", "trainers", "training", "Trainer", "Trainers"),
    Kind("training", "trainings", "training", "Training", "Trainings", watch="name"),
    Kind("evaluation", "evaluations", "evaluation", "Evaluation", "Evaluations", watch="name"),
    Kind("model", "models", "deployment", "Model", "Models"),
    Kind("version", "versions", "deployment", "ModelVersion", "ModelVersions", parent="model"),
    Kind("rollout", "rollouts", "deployment", "Rollout", "Rollouts", watch="name"),
    Kind("host", "hosts", "deployment", "Host", "Hosts"),
    Kind("policy", "policies", "retuning", "Policy", "Policies"),
    Kind("retune", "retunes", "retuning", "Retune", "Retunes"),
)
BY_NOUN = {kind.noun: kind for kind in KINDS}


def kind_of(name: str) -> Kind:
    """Which kind a full resource name is of. Raises InvalidInput when of none."""
    parts = name.split("/")
    for kind in KINDS:
        if len(parts) in (2, 4) and parts[-2] == kind.collection:
            kind.qualified(name)
            return kind
    forms = ", ".join(kind.form for kind in KINDS)
    raise _wrong("name", name, f"give one of {forms}")


def kind_of_collection(collection: str) -> Kind:
    """Raises InvalidInput for an unknown one."""
    for kind in KINDS:
        if kind.collection == collection:
            return kind
    known = ", ".join(kind.collection for kind in KINDS)
    raise _wrong("collection", collection, f"use one of {known}")


def _wrong(field: str, given: str, fix: str) -> InvalidInput:
    from keeptune.runtime.errors import InvalidInput

    return InvalidInput(field=field, problem=f"is {given!r}", fix=fix)
