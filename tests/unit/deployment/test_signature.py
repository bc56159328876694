from dataclasses import replace

import pytest

from keeptune.deployment.model import DataType, Signature, Task, Tensor
from keeptune.deployment.signature import Graph, problems

GRAPH = Graph(
    inputs=(Tensor("image", DataType.FLOAT32, (1, 8, 8)), Tensor("scale", DataType.FLOAT32, (-1,))),
    outputs=(Tensor("probabilities", DataType.FLOAT32, (3,)),),
)
SOUND = Signature(
    task=Task.CLASSIFICATION,
    inputs=(Tensor("image", DataType.FLOAT32, (1, 8, 8)), Tensor("scale", DataType.FLOAT32, (2,))),
    outputs=GRAPH.outputs,
    classes=("a", "b", "c"),
)


def test_a_signature_that_fits_has_no_problems() -> None:
    assert problems(SOUND, GRAPH, "s") == []


@pytest.mark.parametrize(
    ("signature", "field"),
    [
        (replace(SOUND, inputs=SOUND.inputs[:1]), "s.inputs"),
        (replace(SOUND, inputs=()), "s.inputs"),
        (replace(SOUND, outputs=()), "s.outputs"),
        (replace(SOUND, task=Task.UNSPECIFIED), "s.task"),
        (replace(SOUND, classes=("a", "b")), "s.classes"),
        (replace(SOUND, classes=("a", "b", "b")), "s.classes"),
        (replace(SOUND, classes=()), "s.classes"),
        (
            replace(SOUND, inputs=(replace(SOUND.inputs[0], name="picture"), SOUND.inputs[1])),
            "s.inputs[0].name",
        ),
        (
            replace(SOUND, inputs=(replace(SOUND.inputs[0], name='a"b'), SOUND.inputs[1])),
            "s.inputs[0].name",
        ),
        (replace(SOUND, inputs=(*SOUND.inputs, SOUND.inputs[0])), "s.inputs[2].name"),
        (
            replace(
                SOUND,
                inputs=(replace(SOUND.inputs[0], data_type=DataType.INT8), SOUND.inputs[1]),
            ),
            "s.inputs[0].data_type",
        ),
        (
            replace(SOUND, inputs=(replace(SOUND.inputs[0], shape=(8, 8)), SOUND.inputs[1])),
            "s.inputs[0].shape",
        ),
        (
            replace(SOUND, inputs=(replace(SOUND.inputs[0], shape=(1, 8, -1)), SOUND.inputs[1])),
            "s.inputs[0].shape",
        ),
    ],
)
def test_what_does_not_fit_is_named(signature: Signature, field: str) -> None:
    assert field in [violation.field for violation in problems(signature, GRAPH, "s")]
