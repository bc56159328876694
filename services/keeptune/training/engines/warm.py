"""What takes seconds and is the same for every worker: done once, before forking.

Importing torch takes seconds, and so does the first step of an optimiser, which imports
torch._dynamo. Forked workers share the memory of it all.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from pathlib import Path

import numpy as np
import torch

# Imported for the workers' sake.
from keeptune.training.model import Signature, Task, Tensor
from keeptune.training.trainers import networks, onnx_file


def warm_training() -> None:
    """Leaves no thread behind: a fork copies only the one that calls it."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    # Slow to switch on; workers that compute on a GPU switch it off again.
    torch.use_deterministic_algorithms(True)
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.zeros(2, 2)).sum().backward()
    optimizer.step()


def warm_export() -> None:
    """One export of a tiny network; the first costs seconds more than the next."""
    with contextlib.suppress(ImportError):
        # The exporter's progress bars would start a thread.
        importlib.import_module("tqdm").tqdm.monitor_interval = 0
    signature = Signature(
        Task.CLASSIFICATION, (Tensor("features", (2,)),), (Tensor("probabilities", (2,)),)
    )
    network = networks.Classifier(
        networks.Normalise.blank((2,)),
        networks.perceptron(inputs=2, outputs=2, depth=1, width=2, dropout=0.0, seed=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        onnx_file.to_program(network, signature, np.zeros((2, 2), dtype=np.float32)).save(
            str(Path(folder) / "model.onnx")
        )


def gpu_count() -> int:
    """CUDA devices, counted without starting CUDA, which would not survive a fork."""
    return torch.cuda.device_count()
