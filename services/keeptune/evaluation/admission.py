"""What an evaluation must be to be taken on: everything that can be told without judging it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from keeptune.evaluation import convert, rules
from keeptune.evaluation.config import EvaluationSettings
from keeptune.evaluation.model import Evaluation, Gate
from keeptune.evaluation.onnx_model import OnnxModel, read_model
from keeptune.runtime.artifacts import Artifact, ArtifactStore, from_proto
from keeptune.runtime.datasets import check_dataset, dataset_name
from keeptune.runtime.errors import InvalidInput, NotFound, NotImplementedYet, Violation
from keeptune.v1 import evaluation_pb2, types_pb2


@dataclass(frozen=True)
class Admission:
    """Checks a request for an evaluation against the artifacts and the data it names."""

    artifacts: ArtifactStore
    settings: EvaluationSettings

    async def admit(self, wanted: evaluation_pb2.Evaluation) -> Evaluation:
        """The evaluation, PENDING, with defaults filled in.

        Raises InvalidInput naming every field that is wrong, NotFound for an artifact that is not
        in the store, NotImplementedYet for robustness checks.
        """
        if not wanted.HasField("candidate"):
            raise InvalidInput(
                field="evaluation.candidate",
                problem="is not set",
                fix="name the ONNX artifact to judge, e.g. a training's model.onnx",
            )
        await self.check(wanted, data=False)
        return await asyncio.to_thread(self._admit, wanted)

    async def check(self, wanted: evaluation_pb2.Evaluation, *, data: bool = True) -> None:
        """What can be told without a candidate: names, the gate, and unless `data` is off the data.

        The gate is checked for the task of the signature, if that says one.
        """
        if wanted.robustness:
            raise NotImplementedYet(
                "robustness checks are not implemented yet: they need attacks and corruptions "
                "that this version does not have",
                field="evaluation.robustness",
                fix="leave it empty; meanwhile add a dataset of hard or corrupted rows, or slices",
            )
        found = list(_name_problems(wanted))
        if found:
            raise InvalidInput.many(found)
        if not data:
            return
        if wanted.signature.task:
            _check_gate(wanted, wanted.signature.task)
        await asyncio.to_thread(self._check_data, wanted)

    def _admit(self, wanted: evaluation_pb2.Evaluation) -> Evaluation:
        candidate = self._model(
            wanted.candidate,
            "evaluation.candidate",
            signature=wanted.signature if wanted.HasField("signature") else None,
        )
        champion: Artifact | None = None
        if wanted.HasField("champion"):
            champion = from_proto(wanted.champion)
            model = self._model(wanted.champion, "evaluation.champion", default=candidate.signature)
            if model.signature.task != candidate.signature.task:
                raise InvalidInput(
                    field="evaluation.champion",
                    problem="has another task than the candidate",
                    fix="compare a classifier with a classifier",
                )
        gate = _check_gate(wanted, candidate.signature.task)
        self._check_data(wanted, candidate.feature_names)
        return Evaluation(
            candidate=from_proto(wanted.candidate),
            champion=champion,
            signature=candidate.signature,
            datasets=tuple(wanted.datasets),
            gate=gate,
            profile_dataset=(
                wanted.profile_dataset if wanted.HasField("profile_dataset") else None
            ),
            latency_batch_size=wanted.latency_batch_size or 1,
        )

    def _model(
        self,
        artifact: types_pb2.Artifact,
        field: str,
        *,
        signature: types_pb2.ModelSignature | None = None,
        default: types_pb2.ModelSignature | None = None,
    ) -> OnnxModel:
        try:
            size = self.artifacts.size_sync(artifact.sha256)
            if size > self.settings.max_model_bytes:
                raise InvalidInput(
                    field=field,
                    problem=f"has {size} bytes; {self.settings.max_model_bytes} are allowed",
                    fix="give a smaller model, or raise evaluation.max_model_bytes",
                )
            content = self.artifacts.get_bytes_sync(artifact.sha256)
        except NotFound as error:
            raise NotFound(
                error.message,
                field=field,
                fix="upload it first, or name another artifact",
                reason=error.reason,
                metadata=error.metadata,
            ) from error
        return read_model(content, field=field, signature=signature, default=default)

    def _check_data(
        self, wanted: evaluation_pb2.Evaluation, feature_names: tuple[str, ...] = ()
    ) -> None:
        datasets = {f"evaluation.datasets[{i}]": d for i, d in enumerate(wanted.datasets)}
        if wanted.HasField("profile_dataset"):
            datasets["evaluation.profile_dataset"] = wanted.profile_dataset
        for field, dataset in datasets.items():
            check_dataset(dataset, self.artifacts, feature_names=feature_names, field=field)


def _check_gate(wanted: evaluation_pb2.Evaluation, task: int) -> Gate:
    gate = convert.gate_of(wanted.gate)
    names = {dataset_name(d): list(d.slice_columns) for d in wanted.datasets}
    found = list(rules.problems(gate, names, task, "evaluation.gate"))
    if found:
        raise InvalidInput.many(found, reason="INVALID_GATE")
    return gate


def _name_problems(wanted: evaluation_pb2.Evaluation) -> Iterator[Violation]:
    if not wanted.datasets:
        yield Violation("evaluation.datasets", "is empty", "give at least one")
    counts = Counter(dataset_name(dataset) for dataset in wanted.datasets)
    for index, dataset in enumerate(wanted.datasets):
        if counts[dataset_name(dataset)] > 1:
            yield Violation(
                f"evaluation.datasets[{index}].display_name",
                f"is {dataset_name(dataset)!r}, like another dataset's",
                "give each dataset a name of its own",
            )
