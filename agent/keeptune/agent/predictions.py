"""Reads what a model said out of sampled requests: labels or values, and channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from keeptune.agent.outcomes import Truth
from keeptune.agent.sampling import Sample
from keeptune.agent.tensors import Array
from keeptune.runtime.channels import Channels, channels, feature_names_in
from keeptune.v1 import types_pb2

log = structlog.get_logger()


class Reader:
    """For the samples of one version. What does not fit its signature is left out and counted."""

    def __init__(
        self, signature: types_pb2.ModelSignature, channel_names: Iterable[str] = ()
    ) -> None:
        self._signature = signature
        self._feature_names = feature_names_in(channel_names)
        self.misfits = 0

    def predictions(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sequence[Truth]]]:
        """Each sample with its prediction by row."""
        if not self._signature.outputs:
            return
        first = self._signature.outputs[0].name
        for sample in samples:
            output = sample.outputs.get(first)
            if output is None or output.size == 0 or output.ndim == 0 or output.dtype.hasobject:
                self.misfits += 1
                continue
            yield sample, self._rows(output.reshape(len(output), -1))

    def inputs(self, sample: Sample, rows: int) -> dict[str, Array]:
        """What of a sample can be captured: every input of the signature; else nothing."""
        wanted = [spec.name for spec in self._signature.inputs]
        found = {name: sample.inputs[name] for name in wanted if name in sample.inputs}
        whole = len(found) == len(wanted) and all(len(array) == rows for array in found.values())
        return found if whole else {}

    def channels(self, samples: Sequence[Sample]) -> Iterator[tuple[Channels, NDArray[np.float64]]]:
        """Channels with one row a sample, and its time, in the order of the samples.

        Of a batch only the first row is looked at: rows that come together hang together, and
        would break the promise about false alarms.
        """
        for group in _runs(samples):
            inputs = {n: np.stack([s.inputs[n][0] for s in group]) for n in group[0].inputs}
            outputs = {n: np.stack([s.outputs[n][0] for s in group]) for n in group[0].outputs}
            try:
                found = channels(
                    self._signature, inputs, outputs, feature_names=self._feature_names
                )
            except ValueError as error:
                self.misfits += len(group)
                log.warning("samples.misfit", samples=len(group), why=str(error))
                continue
            yield found, np.array([s.time.timestamp() for s in group])

    def _rows(self, output: NDArray[np.generic]) -> Sequence[Truth]:
        if self._signature.task == types_pb2.TASK_REGRESSION:
            return [float(value) for value in output[:, 0].tolist()]
        labels = self._signature.classes
        best = output.astype(np.float64).argmax(axis=1).tolist()
        return [labels[index] if index < len(labels) else str(index) for index in best]


def _runs(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Neighbours whose tensors have the same names and shapes, so that they can be stacked."""
    run: list[Sample] = []
    layout: object = None
    for sample in samples:
        tensors = (*sample.inputs.items(), *sample.outputs.items())
        if any(array.ndim == 0 or len(array) == 0 for _, array in tensors):
            continue
        this = tuple((name, array.shape[1:], array.dtype) for name, array in tensors)
        if run and this != layout:
            yield run
            run = []
        layout = this
        run.append(sample)
    if run:
        yield run
