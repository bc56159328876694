"""What a version's traffic looks like when all is well: one histogram a channel, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime import channels as runtime_channels
from keeptune.runtime.channels import Channels
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import evaluation_pb2

UNUSABLE = -1
"""The bin of a value that is missing or not finite: it feeds no test."""

_MAX_CHANNELS = 1000
_MAX_BINS = 4096
_COARSE_BINS = 8


class Reference:
    """C channels of up to K bins each; shorter ones are padded with empty bins.

    names [C]; counts [C, K] of reference rows; bins_used [C]; coarse [C, K], the group of bins
    that each bin belongs to when effects are measured (about 8 groups of like mass a channel).
    """

    def __init__(
        self,
        names: list[str],
        edges: list[NDArray[np.float64]],
        categories: list[dict[str, int] | None],
        counts: list[NDArray[np.float64]],
    ) -> None:
        self.names = names
        self.edges = edges
        self.categories = categories
        self.bins_used = np.array([len(row) for row in counts], dtype=np.int64)
        width = int(self.bins_used.max())
        self.counts = np.zeros((len(names), width))
        self.coarse = np.zeros((len(names), width), dtype=np.int64)
        for index, row in enumerate(counts):
            self.counts[index, : len(row)] = row
            self.coarse[index, : len(row)] = _coarse_groups(row, ordered=edges[index].size > 0)

    @classmethod
    def from_profile(cls, profile: evaluation_pb2.ReferenceProfile) -> Self:
        """Raises InvalidInput for a profile that is empty, inconsistent or too large."""
        if not profile.channels or len(profile.channels) > _MAX_CHANNELS:
            raise InvalidInput(
                field="reference_profile.channels",
                problem=f"has {len(profile.channels)} channels",
                fix=f"evaluate the version again with 1 to {_MAX_CHANNELS} channels",
            )
        names, edges, categories, counts = [], [], [], []
        for number, channel in enumerate(profile.channels):
            cuts = np.array(channel.edges, dtype=np.float64)
            row = np.array(channel.counts, dtype=np.float64)
            bins = len(channel.categories) + 1 if channel.categories else len(cuts) + 1
            if (
                len(row) != bins
                or bins > _MAX_BINS
                or (row < 0).any()
                or not np.isfinite(cuts).all()
                or (np.diff(cuts) <= 0).any()
            ):
                raise InvalidInput(
                    field=f"reference_profile.channels[{number}]",
                    problem=f"({channel.channel!r}) has edges and counts that do not fit",
                    fix="evaluate the version again",
                )
            names.append(channel.channel)
            edges.append(cuts)
            categories.append(
                {name: place for place, name in enumerate(channel.categories)}
                if channel.categories
                else None
            )
            counts.append(row)
        return cls(names, edges, categories, counts)

    def bins(self, values: Channels, rows: int) -> NDArray[np.int64]:
        """[rows, C]: the bin of each value; UNUSABLE where it is missing or not finite."""
        found = np.full((rows, len(self.names)), UNUSABLE, dtype=np.int64)
        for index, name in enumerate(self.names):
            column = values.get(name)
            if column is None or len(column) != rows:
                continue
            places = self.categories[index]
            if places is not None:
                other = len(places)
                found[:, index] = [places.get(str(value), other) for value in column.tolist()]
            elif not runtime_channels.is_categorical(column):
                numbers = column.astype(np.float64)
                binned = np.searchsorted(self.edges[index], numbers, side="right")
                found[:, index] = np.where(np.isfinite(numbers), binned, UNUSABLE)
        return found

    def numbers(self, values: Mapping[str, NDArray[np.generic]], rows: int) -> NDArray[np.float64]:
        """[rows, C]: the values themselves; NaN for categories and what is missing."""
        found = np.full((rows, len(self.names)), np.nan)
        for index, name in enumerate(self.names):
            column = values.get(name)
            if column is None or len(column) != rows or runtime_channels.is_categorical(column):
                continue
            found[:, index] = column.astype(np.float64)
        return found


def _coarse_groups(counts: NDArray[np.float64], *, ordered: bool) -> NDArray[np.int64]:
    """Neighbouring bins in groups of like mass; categories keep the commonest apart."""
    total = counts.sum()
    if not ordered:
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        return np.minimum(rank, 2 * _COARSE_BINS - 1)
    if total <= 0:
        return np.minimum(np.arange(len(counts)), _COARSE_BINS - 1)
    middle = (np.cumsum(counts) - counts / 2) / total
    groups: NDArray[np.int64] = np.minimum(
        (middle * _COARSE_BINS).astype(np.int64), _COARSE_BINS - 1
    )
    return groups
