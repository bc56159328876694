"""Our trainers on tiny data: they learn, repeat themselves, stop, and export what they learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import json_format
from sklearn.datasets import load_digits

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.errors import DataLoss, Internal
from keeptune.training import checkpoint
from keeptune.training.convert import signature_to_proto
from keeptune.training.export import export
from keeptune.training.model import Recipe, Scalar, Task
from keeptune.training.trainers.augmentation import Augmentation
from keeptune.training.trainers.image import ImageTrainer
from keeptune.training.trainers.parameters import complete
from keeptune.training.trainers.protocol import (
    Epoch,
    FitContext,
    FittedModel,
    NotFiniteError,
    Rows,
    Trainer,
    TrainingData,
)
from keeptune.training.trainers.tabular import TabularTrainer
from keeptune.v1 import types_pb2

# One process imports torch, not all of them.
pytestmark = pytest.mark.xdist_group("torch")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    found = load_digits()
    # Any scale will do.
    x = found.images.astype(np.float32)[:, None] * 1000 + 5
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = order[:700], order[700:]
    return TrainingData(
        Task.CLASSIFICATION,
        Rows(x[train], found.target[train]),
        Rows(x[held_out], found.target[held_out]),
        tuple("0123456789"),
    )


def table(task: Task) -> TrainingData:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 3)) * [1, 100, 0] + [0, 1000, 7]).astype(np.float32)
    signal = x[:, 0] + (x[:, 1] - 1000) / 100
    x[::11, 0] = np.nan
    if task is Task.CLASSIFICATION:
        y: Any = (signal > 0).astype(np.int64)
        classes: tuple[str, ...] = ("low", "high")
    else:
        y, classes = (signal * 50 + 2000).astype(np.float32), ()
    return TrainingData(
        task, Rows(x[:240], y[:240]), Rows(x[240:], y[240:]), classes, ("a", "b", "constant")
    )


def fit(
    trainer: Trainer,
    data: TrainingData,
    parameters: Mapping[str, Scalar] | None = None,
    **more: Any,
) -> list[Epoch]:
    defaults: dict[str, Any] = {
        "epochs": trainer.default_epochs,
        "seed": 1,
        "device": "cpu",
        "recipe": Recipe(),
        "stopped": lambda: False,
    }
    full = complete(trainer.parameters, parameters or {}, field="parameters")
    context = FitContext(data=data, parameters=full, **{**defaults, **more})
    return [_kept(epoch) for epoch in trainer.fit(context)]


def _kept(epoch: Epoch) -> Epoch:
    """With the weights of its own moment."""
    weights = epoch.weights()
    return Epoch(epoch.step, epoch.metrics, lambda: weights)


def fitted(trainer: Trainer, data: TrainingData, **more: Any) -> FittedModel:
    last = fit(trainer, data, **more)[-1]
    full = complete(trainer.parameters, {}, field="parameters")
    return FittedModel(full, trainer.signature(data), data.feature_names, last.weights())


def test_image_learns_the_digits(digits: TrainingData) -> None:
    epochs = fit(ImageTrainer(), digits)
    assert [epoch.step for epoch in epochs] == list(range(1, 11))
    assert set(epochs[0].metrics) == {"accuracy", "log_loss", "train_loss"}
    assert epochs[-1].metrics["accuracy"] >= 0.96
    assert epochs[-1].metrics["log_loss"] < epochs[0].metrics["log_loss"]


@pytest.mark.parametrize("augmentation", [False, True])
def test_image_is_deterministic_by_seed(digits: TrainingData, augmentation: bool) -> None:
    def metrics(seed: int) -> list[Mapping[str, float]]:
        recipe = Recipe(augmentation)
        found = fit(ImageTrainer(), digits, {"width": 8}, epochs=2, seed=seed, recipe=recipe)
        return [epoch.metrics for epoch in found]

    assert metrics(5) == metrics(5)
    assert metrics(5) != metrics(6)


def test_augmentation_changes_training_and_hardens_against_shifts(digits: TrainingData) -> None:
    shifted = np.roll(digits.validation.x, 1, axis=3)
    moved = TrainingData(
        digits.task, digits.train, Rows(shifted, digits.validation.y), digits.classes
    )
    plain = fit(ImageTrainer(), moved)[-1].metrics["accuracy"]
    strong = fit(ImageTrainer(), moved, {"augmentation": 1.0}, recipe=Recipe(True))[-1].metrics
    assert strong["accuracy"] > plain


def test_augmentation_distorts_each_image_its_own_way() -> None:
    images = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    distorted = Augmentation(1.0, torch.Generator().manual_seed(0))(images)
    assert distorted.shape == images.shape
    assert all(not torch.equal(distorted[0], distorted[each]) for each in (1, 2, 3))
    assert Augmentation(0.0, torch.Generator())(images) is images


def test_tabular_classifies_and_fills_gaps() -> None:
    epochs = fit(TabularTrainer(), table(Task.CLASSIFICATION))
    assert epochs[-1].metrics["accuracy"] > 0.85


def test_tabular_predicts_values() -> None:
    epochs = fit(TabularTrainer(), table(Task.REGRESSION))
    assert set(epochs[-1].metrics) == {"rmse", "mae", "train_loss"}
    # The target's deviation is about 70.
    assert epochs[-1].metrics["rmse"] < 35


def test_a_hopeless_learning_rate_is_not_finite(digits: TrainingData) -> None:
    with pytest.raises(NotFiniteError, match="nan"):
        fit(ImageTrainer(), digits, {"learning_rate": 1e30, "width": 8})


def test_fit_stops_between_batches(digits: TrainingData) -> None:
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    assert len(fit(ImageTrainer(), digits, {"width": 8}, stopped=stopped)) == 1
    assert asked == 31


def test_the_last_batch_of_one_does_no_harm() -> None:
    data = table(Task.REGRESSION)
    odd = TrainingData(data.task, Rows(data.train.x[:65], data.train.y[:65]), data.validation)
    assert len(fit(TabularTrainer(), odd, {"batch_size": 64}, epochs=2)) == 2


@pytest.mark.parametrize("task", list(Task))
def test_exports_say_what_the_trainer_said(task: Task, tmp_path: Path) -> None:
    trainer, data, artifacts = TabularTrainer(), table(task), ArtifactStore(tmp_path.as_uri())
    model = fitted(trainer, data)
    weights = checkpoint.write(
        model, trainer="trainers/tabular", trainer_version="1", artifacts=artifacts
    )
    done = export(
        weights, trainer=trainer, trainer_name="trainers/tabular", data=data, artifacts=artifacts
    )
    assert done.parity_error < 1e-5
    proto = onnx.load_from_string(artifacts.get_bytes_sync(done.onnx))
    assert proto.opset_import[0].version == 20
    properties = {each.key: each.value for each in proto.metadata_props}
    assert json.loads(properties["keeptune.feature_names"]) == ["a", "b", "constant"]
    signature = json_format.Parse(properties["keeptune.signature"], types_pb2.ModelSignature())
    assert signature == signature_to_proto(trainer.signature(data))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for rows in (1, 5):
        (output,) = session.run(None, {"features": data.validation.x[:rows]})
        assert output.shape == (rows, 2 if task is Task.CLASSIFICATION else 1)
        assert np.isfinite(output).all()
    if task is Task.CLASSIFICATION:
        np.testing.assert_allclose(output.sum(axis=1), 1.0, atol=1e-5)
    else:
        assert abs(output.mean() - 2000) < 200


def test_exported_images_are_as_accurate(digits: TrainingData, tmp_path: Path) -> None:
    trainer = ImageTrainer()
    model = fitted(trainer, digits, epochs=3)
    error = trainer.export(model, digits.validation.x[:64], tmp_path / "model.onnx")
    assert error < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (output,) = session.run(["probabilities"], {"image": digits.validation.x})
    accuracy = (output.argmax(axis=1) == digits.validation.y).mean()
    assert accuracy == pytest.approx(
        fit(trainer, digits, epochs=3)[-1].metrics["accuracy"], abs=2e-3
    )


def test_checkpoints_hold_all_that_an_export_needs(tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path.as_uri())
    model = fitted(TabularTrainer(), table(Task.REGRESSION), epochs=1)
    stored = checkpoint.write(
        model, trainer="trainers/tabular", trainer_version="1", artifacts=artifacts
    )
    back = checkpoint.read(stored, artifacts, trainer="trainers/tabular")
    assert (back.parameters, back.signature, back.feature_names) == (
        model.parameters,
        model.signature,
        model.feature_names,
    )
    for name, array in model.weights.items():
        np.testing.assert_array_equal(back.weights[name], array)
    with pytest.raises(DataLoss, match="trainers/tabular"):
        checkpoint.read(stored, artifacts, trainer="trainers/image")


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}"]
)
def test_a_damaged_checkpoint_is_data_loss(content: bytes, tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path.as_uri())
    stored = artifacts.put_bytes_sync(content, media_type=checkpoint.MEDIA_TYPE)
    with pytest.raises(DataLoss):
        checkpoint.read(stored, artifacts, trainer="trainers/image")


def test_an_export_that_differs_is_refused(tmp_path: Path) -> None:
    class Wrong(TabularTrainer):
        def export(self, fitted: FittedModel, rows: Any, path: Path) -> float:
            super().export(fitted, rows, path)
            return 0.01

    data, artifacts = table(Task.REGRESSION), ArtifactStore(tmp_path.as_uri())
    weights = checkpoint.write(
        fitted(Wrong(), data, epochs=1), trainer="t", trainer_version="1", artifacts=artifacts
    )
    with pytest.raises(Internal, match="differs"):
        export(weights, trainer=Wrong(), trainer_name="t", data=data, artifacts=artifacts)
