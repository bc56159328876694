"""Wishes become trainings, or errors that name the field."""

from __future__ import annotations

import pytest

from keeptune.runtime.errors import InvalidInput, NotImplementedYet
from keeptune.training.convert import (
    signature_from_proto,
    signature_to_proto,
    trainer_to_proto,
    training_from_proto,
)
from keeptune.training.model import Signature, Task, Tensor
from keeptune.training.trainers.image import ImageTrainer
from keeptune.training.trainers.registry import Trainers
from keeptune.training.trainers.tabular import TabularTrainer
from keeptune.v1 import training_pb2, types_pb2


def wish(**fields: object) -> training_pb2.Training:
    defaults: dict[str, object] = {
        "trainer": "trainers/image",
        "task": types_pb2.TASK_CLASSIFICATION,
        "study": "studies/s",
        "datasets": [types_pb2.Dataset(uri="/x.npz")],
    }
    return training_pb2.Training(**{**defaults, **fields})  # type: ignore[arg-type]


def test_defaults() -> None:
    training = training_from_proto(wish())
    assert (training.validation_fraction, training.resources.cpu) == (0.2, 1.0)
    assert training.fixed is None


@pytest.mark.parametrize(
    "field",
    ["adversarial", "transfer_from", "distill_from", "pruning", "quantization", "privacy"],
)
def test_recipes_that_come_later_say_so(field: str) -> None:
    value = "models/m/versions/1" if field.endswith("_from") else True
    with pytest.raises(NotImplementedYet) as caught:
        training_from_proto(wish(recipe=training_pb2.Recipe(**{field: value})))  # type: ignore[arg-type]
    assert caught.value.field == f"training.recipe.{field}"
    assert caught.value.fix


def test_the_ray_engine_comes_later_and_others_do_not_exist() -> None:
    with pytest.raises(NotImplementedYet):
        training_from_proto(wish(engine="ray"))
    with pytest.raises(InvalidInput) as caught:
        training_from_proto(wish(engine="slurm"))
    assert caught.value.field == "training.engine"


def test_a_task_must_be_chosen() -> None:
    with pytest.raises(InvalidInput) as caught:
        training_from_proto(wish(task=types_pb2.TASK_UNSPECIFIED))
    assert caught.value.field == "training.task"


def test_an_unset_parameter_is_named() -> None:
    proto = wish()
    proto.fixed.parameters["depth"].SetInParent()
    with pytest.raises(InvalidInput) as caught:
        training_from_proto(proto)
    assert "depth" in caught.value.field


def test_signatures_come_back() -> None:
    signature = Signature(
        Task.CLASSIFICATION, (Tensor("image", (1, -1, -1)),), (Tensor("probabilities", (2,)),),
        ("a", "b"),
    )  # fmt: skip
    assert signature_from_proto(signature_to_proto(signature)) == signature


def test_our_trainers_are_installed_and_describe_themselves() -> None:
    trainers = Trainers.installed()
    assert {"image", "tabular"} <= set(trainers.ids)
    for trainer, tasks in ((ImageTrainer(), 1), (TabularTrainer(), 2)):
        proto = trainer_to_proto(trainer)
        assert isinstance(trainers.get(proto.name), type(trainer))
        assert len(proto.tasks) == tasks
        assert proto.data_contract
        assert {spec.name for spec in proto.recommended_space.parameters} == {
            parameter.name for parameter in trainer.parameters
        }
    with pytest.raises(InvalidInput) as caught:
        trainers.get("trainers/imag", field="training.trainer")
    assert "trainers/image" in caught.value.fix


def test_a_graph_is_no_parameter_of_a_trainer() -> None:
    fixed = training_pb2.FixedParameters()
    fixed.parameters["net"].graph_value.SetInParent()
    with pytest.raises(InvalidInput) as caught:
        training_from_proto(wish(study="", fixed=fixed))
    assert "'net'" in caught.value.field
    assert "no trainer builds" in caught.value.message
