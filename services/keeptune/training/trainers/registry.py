"""The installed trainers, found by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

import structlog

from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.runtime.names import ID_PATTERN, parse_trainer, trainer_name
from keeptune.training.trainers.protocol import Trainer

log = structlog.get_logger()

GROUP = "keeptune.trainers"


class Trainers:
    """Trainers by id. A plugin that cannot be loaded is told when it is asked for."""

    def __init__(self, points: Mapping[str, EntryPoint]) -> None:
        self._points = dict(points)
        self._loaded: dict[str, Trainer] = {}

    @classmethod
    def installed(cls) -> Trainers:
        return cls({p.name: p for p in entry_points(group=GROUP) if ID_PATTERN.fullmatch(p.name)})

    @property
    def ids(self) -> list[str]:
        return sorted(self._points)

    def get(self, name: str, *, field: str = "name") -> Trainer:
        """The trainer `trainers/{id}`. Raises InvalidInput for an unknown one."""
        identifier = parse_trainer(name, field=field)
        if identifier not in self._points:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, which is not installed",
                fix="use one of " + ", ".join(f"trainers/{each}" for each in self.ids),
            )
        if identifier not in self._loaded:
            self._loaded[identifier] = self._load(self._points[identifier])
        return self._loaded[identifier]

    def usable(self) -> list[Trainer]:
        """Those that can be loaded, by id; what is wrong with the others is logged."""
        found = []
        for identifier in self.ids:
            try:
                found.append(self.get(trainer_name(identifier)))
            except FailedPrecondition as error:
                log.warning("trainer left out", trainer=identifier, error=error.message)
        return found

    def _load(self, point: EntryPoint) -> Trainer:
        try:
            trainer: Trainer = point.load()()
        except Exception as error:
            raise FailedPrecondition(
                f"trainer {point.name!r} ({point.value}) cannot be loaded: {error}",
                fix="repair or remove the package that brings it",
                reason="TRAINER_BROKEN",
            ) from error
        return trainer
