"""A trainer as a third party would write one, without torch: it sleeps, scores, and can die.

Score after epoch e: `level` * e. `die_at` = e kills its own process in epoch e, every time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keeptune.training.model import Signature, Task, Tensor
from keeptune.training.trainers.parameters import FloatParameter, IntParameter
from keeptune.training.trainers.protocol import (
    Epoch,
    FitContext,
    FittedModel,
    TrainerMetric,
    TrainingData,
)


class SleepyTrainer:
    name = "sleepy"
    version = "1"
    description = "Sleeps."
    data_contract = "NPZ with `x` [n, features] and `y`."
    tasks = (Task.REGRESSION,)
    recipes: frozenset[str] = frozenset()
    default_epochs = 3
    parameters = (
        FloatParameter("level", 0.0, 10.0, default=1.0, lowest=-100, highest=100),
        FloatParameter("seconds", 0.0, 1.0, default=0.0, lowest=0, highest=60),
        IntParameter("die_at", 0, 10, default=0, lowest=0),
    )

    def metrics(self, task: Task) -> tuple[TrainerMetric, ...]:
        return (TrainerMetric("score", maximize=True),)

    def check(self, data: TrainingData) -> str:
        return "" if data.train.x.ndim == 2 else "is not [n, features]"

    def signature(self, data: TrainingData) -> Signature:
        features = data.train.x.shape[1]
        return Signature(data.task, (Tensor("features", (features,)),), (Tensor("value", (1,)),))

    def fit(self, context: FitContext) -> Iterator[Epoch]:
        level = float(context.parameters["level"])
        weight = np.full((context.data.train.x.shape[1], 1), level, dtype=np.float32)
        for step in range(1, context.epochs + 1):
            end = time.monotonic() + float(context.parameters["seconds"])
            while time.monotonic() < end:
                if context.stopped():
                    return
                time.sleep(0.02)
            if step == context.parameters["die_at"]:
                os.kill(os.getpid(), signal.SIGKILL)
            yield Epoch(step, {"score": level * step}, lambda: {"weight": weight})

    def export(self, fitted: FittedModel, rows: np.ndarray[Any, Any], path: Path) -> float:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        (features,) = fitted.signature.inputs[0].shape
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["features", "weight"], ["value"])],
            "sleepy",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features])],
            [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
            [numpy_helper.from_array(fitted.weights["weight"], "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(model, str(path))
        return 0.0
