"""A torch module as one ONNX file, and the proof that the two agree."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from keeptune.training.model import Signature

OPSET = 20


def write(network: nn.Module, signature: Signature, rows: NDArray[np.float32], path: Path) -> float:
    """Writes `network` (one input, one output, as the signature names them).

    `rows` are real inputs [n, ...]; returns the largest difference on them, alone and in a batch,
    between torch and the file under ONNX Runtime, relative to the largest output above 1.
    """
    to_program(network, signature, rows).save(str(path), external_data=False)
    return _difference(network, path, rows)


def to_program(
    network: nn.Module, signature: Signature, rows: NDArray[np.float32]
) -> torch.onnx.ONNXProgram:
    (source,), (target,) = signature.inputs, signature.outputs
    network = network.cpu().eval()
    # A sample of two: with one, the exporter takes the batch for a constant.
    sample = torch.from_numpy(np.resize(rows, (2, *rows.shape[1:])).astype(np.float32))
    with _quiet():
        program = torch.onnx.export(
            network,
            (sample,),
            input_names=[source.name],
            output_names=[target.name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of torchvision, which we do not use, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _difference(network: nn.Module, path: Path, rows: NDArray[np.float32]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    worst = 0.0
    for batch in (rows, rows[:1]):
        exact = network(torch.from_numpy(np.array(batch, dtype=np.float32))).numpy()
        (served,) = session.run(None, {source.name: np.ascontiguousarray(batch, dtype=np.float32)})
        scale = max(1.0, float(np.abs(exact).max()))
        worst = max(worst, float(np.abs(exact - served).max()) / scale)
    return worst
