from math import log10

from keeptune.client import Choice, Client, Float, Int


def train_one_epoch(epoch: int, learning_rate: float, layers: int, activation: str) -> float:
    """Stands for your training; the accuracy after this epoch."""
    reached = 0.97 - 0.08 * (log10(learning_rate) + 3) ** 2 - 0.03 * abs(layers - 3)
    return (reached - 0.02 * (activation == "relu")) * (1 - 0.5 ** (epoch + 1))


client = Client()  # finds the address and the credentials of `keeptune dev`
study = client.create_study(
    name="first",
    space={
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "layers": Int(1, 4),
        "activation": Choice(["relu", "gelu"]),
    },
    metric="accuracy",
    goal="maximize",
    budget=40,
    pruning="forecast",
)
for trial in study.trials(worker="laptop"):
    with trial:  # an exception fails the trial, not your program
        for epoch in range(10):
            accuracy = train_one_epoch(epoch, **trial.parameters)
            if not trial.report(epoch, accuracy=accuracy):
                break  # pruned: it will not win
        trial.complete(accuracy=accuracy)
print(study.best.parameters)
