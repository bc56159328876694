"""A small multi-layer perceptron with its gradient, trained by Adam, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Network:
    """Two hidden layers of tanh and a linear output; its weights lie in one flat array."""

    def __init__(self, inputs: int, hidden: int, outputs: int, rng: np.random.Generator) -> None:
        self._shapes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
        parts = []
        for i, (fan_in, fan_out) in enumerate(self._shapes):
            # A nearly silent output at first, so that learning starts from what is known.
            scale = 0.01 if i == len(self._shapes) - 1 else 1.0 / np.sqrt(max(fan_in, 1))
            parts += [scale * rng.standard_normal(fan_in * fan_out), np.zeros(fan_out)]
        self.weights: Floats = np.concatenate(parts)

    def __call__(self, x: Floats) -> Floats:
        """Outputs (n, outputs) of inputs (n, inputs)."""
        return self._layers(x)[-1]

    def gradient(self, x: Floats, output_gradient: Floats) -> Floats:
        """Of a loss with this gradient (n, outputs) in the outputs at x, in the weights."""
        layers = self._layers(x)
        matrices = self._matrices()
        parts: list[Floats] = []
        slope = output_gradient
        for i in reversed(range(len(matrices))):
            parts = [(layers[i].T @ slope).ravel(), slope.sum(axis=0), *parts]
            if i:
                slope = (slope @ matrices[i][0].T) * (1.0 - layers[i] ** 2)
        return np.concatenate(parts)

    def _layers(self, x: Floats) -> list[Floats]:
        """The input and what each layer makes of it."""
        layers = [x]
        matrices = self._matrices()
        for i, (matrix, bias) in enumerate(matrices):
            sums = layers[-1] @ matrix + bias
            layers.append(sums if i == len(matrices) - 1 else np.tanh(sums))
        return layers

    def _matrices(self) -> list[tuple[Floats, Floats]]:
        found, start = [], 0
        for fan_in, fan_out in self._shapes:
            middle = start + fan_in * fan_out
            matrix = self.weights[start:middle].reshape(fan_in, fan_out)
            start = middle + fan_out
            found.append((matrix, self.weights[middle:start]))
        return found


class Adam:
    """Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015."""

    def __init__(self, size: int, rate: float) -> None:
        self._rate = rate
        self._mean = np.zeros(size)
        self._square = np.zeros(size)
        self._steps = 0

    def step(self, gradient: Floats) -> Floats:
        """What to add to the weights."""
        self._steps += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient**2
        mean = self._mean / (1.0 - 0.9**self._steps)
        square = self._square / (1.0 - 0.999**self._steps)
        return np.asarray(-self._rate * mean / (np.sqrt(square) + 1e-8))
