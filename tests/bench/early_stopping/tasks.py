"""Real models whose training can be watched: a finite space each, and a loss after every step.

The spaces are small enough to train every configuration to its end once. A model that diverges
reports `WORST` from then on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keeptune.search.domains import Categories, IntRange
from keeptune.search.space import Assignment, Domain, Parameter, SearchSpace
from tests.bench.early_stopping.data import Array, Split, load

# As a multiple of the loss of who knows nothing.
WORST = 10.0

Training = Callable[[Split, Any], Iterator[float]]


@dataclass(frozen=True)
class Task:
    """`steps` = epochs, or stages of boosting, of a whole training."""

    name: str
    dataset: str
    steps: int
    metric: str
    space: SearchSpace
    training: Training
    # Change it whenever the curves would.
    revision: int = 1

    def curve(self, parameters: Assignment) -> Iterator[float]:
        """The loss after each step; less is better."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for loss in self.training(load(self.dataset), dict(parameters)):
                yield min(loss, WORST) if math.isfinite(loss) else WORST


def _space(**domains: Domain) -> SearchSpace:
    return SearchSpace(tuple(Parameter(name, domain) for name, domain in domains.items()))


def _log_loss(probabilities: Array, y: Array) -> float:
    chosen = probabilities[np.arange(len(y)), y]
    return float(-np.mean(np.log(np.clip(chosen, 1e-7, 1.0))))


def _error(predicted: Array, y: Array) -> float:
    return float(np.mean(predicted != y))


def _mlp_classifier(split: Split, p: Any) -> Iterator[float]:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (2 ** p["log2_width"],) * p["depth"],
        solver=p["solver"],
        learning_rate_init=2.0 ** p["log2_learning_rate"],
        alpha=10.0 ** p["log10_alpha"],
        batch_size=64,
        random_state=0,
    )
    while True:
        try:
            model.partial_fit(split.x_train, split.y_train, classes=split.classes)
            yield _log_loss(model.predict_proba(split.x_valid), split.y_valid)
        except ValueError:
            # Its weights are no numbers any more.
            yield WORST


def _sgd_classifier(split: Split, p: Any) -> Iterator[float]:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(
        loss=p["loss"],
        alpha=10.0 ** p["log10_alpha"],
        eta0=2.0 ** p["log2_learning_rate"],
        learning_rate=p["schedule"],
        power_t=0.3,
        average=p["average"],
        random_state=0,
    )
    while True:
        model.partial_fit(split.x_train, split.y_train, classes=split.classes)
        yield _error(model.predict(split.x_valid), split.y_valid)


def _boosting(p: Any) -> dict[str, Any]:
    return {
        "learning_rate": 2.0 ** (p["log2_learning_rate_twice"] / 2),
        "max_depth": p["max_depth"],
        "subsample": p["subsample_tenths"] / 10,
        "min_samples_leaf": 2 ** p["log2_leaf"],
        "max_features": p["max_features_tenths"] / 10,
        "n_estimators": 100,
        "random_state": 0,
    }


def _boosting_regressor(split: Split, p: Any) -> Iterator[float]:
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(**_boosting(p)).fit(split.x_train, split.y_train)
    for predicted in model.staged_predict(split.x_valid):
        yield float(np.mean((predicted - split.y_valid) ** 2))


def _boosting_classifier(split: Split, p: Any) -> Iterator[float]:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(**_boosting(p)).fit(split.x_train, split.y_train)
    for probabilities in model.staged_predict_proba(split.x_valid):
        yield _log_loss(probabilities, split.y_valid)


def _torch_mlp(split: Split, p: Any) -> Iterator[float]:
    """Dropout, momentum and a schedule of the learning rate, as networks are trained today."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.tensor(split.x_train).float(), torch.tensor(split.y_train)
    x_valid = torch.tensor(split.x_valid).float()
    width = 2 ** p["log2_width"]
    model = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], width),
        torch.nn.ReLU(),
        torch.nn.Dropout(p["dropout_tenths"] / 10),
        torch.nn.Linear(width, len(split.classes)),
    )
    rate = 2.0 ** p["log2_learning_rate"]
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    epochs = 81
    shares: dict[str, Callable[[int], float]] = {
        "constant": lambda _: 1.0,
        "cosine": lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / epochs)),
        "steps": lambda epoch: 0.2 ** (3 * epoch // epochs),
    }
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shares[p["schedule"]])
    while True:
        model.train()
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            yield _error(model(x_valid).argmax(1).numpy(), split.y_valid)


_BOOSTING = _space(
    log2_learning_rate_twice=IntRange(-12, 0),
    max_depth=IntRange(1, 5),
    subsample_tenths=IntRange(4, 10, step=3),
    log2_leaf=IntRange(0, 4, step=2),
    max_features_tenths=IntRange(2, 10, step=4),
)
_MLP = _space(
    log2_learning_rate=IntRange(-14, -1),
    log2_width=IntRange(3, 7, step=2),
    depth=IntRange(1, 2),
    log10_alpha=IntRange(-4, 0, step=2),
    solver=Categories(("adam", "sgd")),
)

TASKS = {
    task.name: task
    for task in (
        Task("mlp-digits", "digits", 81, "log loss", _MLP, _mlp_classifier),
        Task("mlp-wine", "wine", 81, "log loss", _MLP, _mlp_classifier),
        Task(
            "sgd-digits",
            "digits",
            81,
            "error",
            _space(
                loss=Categories(("hinge", "log_loss", "modified_huber")),
                log10_alpha=IntRange(-6, 0),
                log2_learning_rate=IntRange(-14, 2, step=2),
                schedule=Categories(("constant", "invscaling")),
                average=Categories((False, True)),
            ),
            _sgd_classifier,
        ),
        Task("boosting-diabetes", "diabetes", 100, "squared error", _BOOSTING, _boosting_regressor),
        Task("boosting-cancer", "breast_cancer", 100, "log loss", _BOOSTING, _boosting_classifier),
        Task(
            "torch-patches",
            "patches",
            81,
            "error",
            _space(
                log2_learning_rate=IntRange(-14, 0, step=2),
                log2_width=IntRange(4, 8, step=2),
                dropout_tenths=IntRange(0, 6, step=3),
                schedule=Categories(("constant", "cosine", "steps")),
            ),
            _torch_mlp,
        ),
    )
}
