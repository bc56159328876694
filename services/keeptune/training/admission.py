"""All that is checked of a new training before it is acknowledged: nothing is left to fail later
that can be known now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from keeptune.runtime.errors import FailedPrecondition, InvalidInput, NotFound, Violation
from keeptune.training.convert import parameters_from_proto
from keeptune.training.datasets.keeper import DataKeeper
from keeptune.training.engines.local import LocalEngine
from keeptune.training.model import Scalar, Training
from keeptune.training.studies import Studies
from keeptune.training.trainers.parameters import Parameter, complete
from keeptune.training.trainers.protocol import Trainer
from keeptune.training.trainers.registry import Trainers
from keeptune.v1 import search_pb2, types_pb2

# Of the search service's algorithms the one whose trials are no trainings of their own.
_POPULATION = "pbt"


class Admission:
    def __init__(
        self,
        trainers: Trainers,
        studies: Studies,
        engine: LocalEngine,
        data: DataKeeper,
    ) -> None:
        self._trainers = trainers
        self._studies = studies
        self._engine = engine
        self._data = data

    async def admit(self, training: Training, *, keep: bool = True) -> Training:
        """The training with its data prepared, and kept unless it is only a check.

        Raises what is wrong, naming the field.
        """
        trainer = self._trainers.get(training.trainer, field="training.trainer")
        _check_task(training, trainer)
        _check_recipe(training, trainer)
        if training.fixed is not None:
            complete(trainer.parameters, training.fixed, field="training.fixed.parameters")
        else:
            await self._check_study(training, trainer)
        if training.resources.gpu:
            await self._check_gpu(training)
        data = await self._data.prepare(training)
        if problem := await asyncio.to_thread(trainer.check, data):
            raise InvalidInput(
                field="training.datasets",
                problem=problem,
                fix=f"{training.trainer} needs: {trainer.data_contract}",
            )
        return replace(training, data_key=await self._data.keep(data)) if keep else training

    async def _check_study(self, training: Training, trainer: Trainer) -> None:
        try:
            study = await self._studies.get(training.study)
        except NotFound as error:
            raise NotFound(
                f"{training.study} does not exist",
                field="training.study",
                fix="create the study first",
            ) from error
        violations = [
            *_unmeasured(study, training, trainer),
            *_unknown_parameters(study, trainer),
        ]
        if violations:
            raise InvalidInput.many(violations)
        if study.chosen_algorithm == _POPULATION:
            raise FailedPrecondition(
                f"{training.study} uses {_POPULATION}, whose trials continue from the checkpoints "
                "of others; trainers begin every trial anew",
                field="training.study",
                fix="use another algorithm, or workers of your own with SuggestTrials",
                reason="ALGORITHM_UNFIT",
            )
        if study.state != search_pb2.STUDY_STATE_ACTIVE and not study.trial_counts.completed:
            raise FailedPrecondition(
                f"{training.study} has ended without a completed trial",
                field="training.study",
                fix="create another study",
            )

    async def _check_gpu(self, training: Training) -> None:
        count = await self._engine.gpus()
        if training.resources.gpu > count:
            raise FailedPrecondition(
                f"asks for {training.resources.gpu:g} GPUs a trial, but this host has {count}",
                field="training.resources.gpu",
                fix="leave it out, or run the training service where a CUDA device and a CUDA "
                "build of torch are",
                reason="NO_GPU",
            )


def _check_task(training: Training, trainer: Trainer) -> None:
    if training.task not in trainer.tasks:
        raise InvalidInput(
            field="training.task",
            problem=f"is {training.task.value}, which {training.trainer} cannot do",
            fix="use " + " or ".join(task.value for task in trainer.tasks),
        )


def _check_recipe(training: Training, trainer: Trainer) -> None:
    if training.recipe.augmentation and "augmentation" not in trainer.recipes:
        raise InvalidInput(
            field="training.recipe.augmentation",
            problem=f"is asked for, which {training.trainer} cannot do",
            fix="leave it out, or use trainers/image for images",
        )


def _unmeasured(
    study: search_pb2.Study, training: Training, trainer: Trainer
) -> Iterator[Violation]:
    measured = [metric.name for metric in trainer.metrics(training.task)]
    for index, metric in enumerate(study.metrics):
        if metric.name not in measured:
            yield Violation(
                "training.study",
                f"has the metric {metric.name!r} (metrics[{index}]), which {training.trainer} "
                f"does not measure for {training.task.value}",
                "use a study with metrics of " + ", ".join(measured),
            )


def _unknown_parameters(study: search_pb2.Study, trainer: Trainer) -> Iterator[Violation]:
    known = {parameter.name: parameter for parameter in trainer.parameters}
    for spec in study.space.parameters:
        if spec.WhichOneof("domain") == "graph":
            yield Violation(
                "training.study",
                f"searches the graph {spec.name!r}, which no trainer builds yet",
                "build the models in a loop of your own (optimize() of the Python client), or "
                "describe them by plain parameters",
            )
        elif spec.name not in known:
            yield Violation(
                "training.study",
                f"searches {spec.name!r}, which the trainer does not know",
                "use parameters of " + ", ".join(known),
            )
        elif problem := _unusable(spec, known[spec.name]):
            yield Violation(
                "training.study",
                f"searches {spec.name!r}, whose value {problem}",
                known[spec.name].wanted,
            )


def _unusable(spec: types_pb2.ParameterSpec, parameter: Parameter) -> str:
    """Why some value of the domain would be refused; empty when all would do."""
    domain = spec.WhichOneof("domain")
    values: list[Scalar]
    if domain == "float_range":
        values = [spec.float_range.min, spec.float_range.max]
    elif domain == "int_range":
        values = [spec.int_range.min, spec.int_range.max]
    elif domain in ("categories", "fixed"):
        given = [spec.fixed] if domain == "fixed" else spec.categories.values
        named = {str(index): value for index, value in enumerate(given)}
        values = list(parameters_from_proto(named, field=f"training.study {spec.name}").values())
    else:
        return "has no domain"
    return next((problem for value in values if (problem := parameter.problem(value))), "")
