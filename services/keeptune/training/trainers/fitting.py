"""The loop that fits a network, an epoch a step: AdamW, one-cycle learning rate, own shuffling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from keeptune.training.model import Task
from keeptune.training.trainers.augmentation import Augmentation
from keeptune.training.trainers.networks import Classifier, Regressor, weights_of
from keeptune.training.trainers.protocol import Epoch, FitContext, NotFiniteError, Rows

_VALIDATION_BATCH = 1024
_NO_CHANGE: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda x: x  # noqa: E731


def fit(
    network: Classifier | Regressor,
    context: FitContext,
    *,
    as_input: Callable[[NDArray[np.float32]], NDArray[np.float32]] = _NO_CHANGE,
) -> Iterator[Epoch]:
    """Yields after every epoch. `as_input` brings rows as stored into the network's input shape.

    Deterministic by `context.seed` on a CPU. Raises NotFiniteError at the first batch whose loss
    is NaN or infinite.
    """
    torch.manual_seed(context.seed)
    generator = torch.Generator().manual_seed(context.seed)
    network.to(context.device)
    data = context.data
    batch_size = min(int(context.parameters["batch_size"]), len(data.train))
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=float(context.parameters["learning_rate"]),
        weight_decay=float(context.parameters["weight_decay"]),
        fused=True,
    )
    steps = math.ceil(len(data.train) / batch_size) * context.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=float(context.parameters["learning_rate"]), total_steps=steps + 1
    )
    augment = _augmentation(context, generator)
    for step in range(1, context.epochs + 1):
        network.train()
        total, seen = 0.0, 0
        for chosen in torch.split(torch.randperm(len(data.train), generator=generator), batch_size):
            if context.stopped():
                return
            if len(chosen) == 1 and len(data.train) > 1:
                # A batch of one has no variance for batch normalisation.
                schedule.step()
                continue
            x, y = _batch(data.train, chosen.numpy(), as_input, context.device)
            loss = _loss(network, augment(network.normalise(x)), y)
            value = loss.item()
            if not math.isfinite(value):
                raise NotFiniteError(step, f"the training loss became {value} in epoch {step}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total, seen = total + value * len(chosen), seen + len(chosen)
        metrics = _validate(network, data.validation, data.task, as_input, context.device)
        metrics["train_loss"] = total / max(seen, 1)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFiniteError(step, f"{name} became {value} in epoch {step}")
        yield Epoch(step, metrics, lambda: weights_of(network))


def _augmentation(context: FitContext, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    if not context.recipe.augmentation:
        return lambda x: x
    return Augmentation(float(context.parameters["augmentation"]), generator)


def _batch(
    rows: Rows,
    chosen: NDArray[np.int64] | slice,
    as_input: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    device: str,
) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.array(as_input(rows.x[chosen]), dtype=np.float32))
    y = torch.from_numpy(np.array(rows.y[chosen]))
    return x.to(device), y.to(device)


def _loss(network: Classifier | Regressor, x: Tensor, y: Tensor) -> Tensor:
    """Of normalised inputs; regression in standard units, so that learning rates carry over."""
    output = network.body(x)
    if isinstance(network, Classifier):
        return functional.cross_entropy(output, y)
    return functional.mse_loss(output[:, 0], network.scale.standardise(y))


@torch.no_grad()
def _validate(
    network: Classifier | Regressor,
    rows: Rows,
    task: Task,
    as_input: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    device: str,
) -> dict[str, float]:
    network.eval()
    sums = np.zeros(2)
    for start in range(0, len(rows), _VALIDATION_BATCH):
        x, y = _batch(rows, slice(start, start + _VALIDATION_BATCH), as_input, device)
        if task is Task.CLASSIFICATION:
            logits = network.body(network.normalise(x))
            hits = (logits.argmax(dim=1) == y).sum()
            losses = functional.cross_entropy(logits, y, reduction="sum")
            sums += (hits.item(), losses.item())
        else:
            error = network(x)[:, 0].double() - y
            sums += (error.square().sum().item(), error.abs().sum().item())
    first, second = (sums / len(rows)).tolist()
    if task is Task.CLASSIFICATION:
        return {"accuracy": first, "log_loss": second}
    return {"rmse": math.sqrt(first), "mae": second}
