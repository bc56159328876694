"""Shares the host's worker processes among trainings. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keeptune.training.model import Resources


@dataclass(frozen=True)
class Host:
    """What there is: `workers` single-core processes, `gpus` devices."""

    workers: int
    gpus: int = 0


@dataclass(frozen=True)
class Demand:
    """A training that could use up to `wanted` workers, each with these resources.

    `working` of them are at work now; more of them may start if `may_start`.
    """

    training: str
    wanted: int
    resources: Resources
    working: int = 0
    may_start: bool = True


def cores(resources: Resources) -> int:
    """Threads a worker computes with, and places it takes of the host's."""
    return max(1, math.ceil(resources.cpu))


def allocate(host: Host, demands: Sequence[Demand]) -> Mapping[str, int]:
    """How many workers each training may have now.

    Fewer than it has: that many are to be released. More: they may start at once, since places
    that another training's released workers still hold are not given out.
    """
    rooms = dict(_fair(host, demands))
    free = host.workers - sum(each.working * _places(host, each) for each in demands)
    for each in demands:
        more = rooms[each.training] - each.working
        if more > 0:
            started = min(more, max(free, 0) // _places(host, each)) if each.may_start else 0
            rooms[each.training] = each.working + started
            free -= started * _places(host, each)
    return rooms


def device(index: int, resources: Resources, host: Host) -> str:
    """Where the worker of this index computes, as torch names it."""
    if not resources.gpu:
        return "cpu"
    return f"cuda:{int(index * resources.gpu) % max(host.gpus, 1)}"


def _fair(host: Host, demands: Sequence[Demand]) -> dict[str, int]:
    """One at a time in turn, older (earlier) trainings first."""
    free_places, free_gpus = host.workers, float(host.gpus)
    given = {demand.training: 0 for demand in demands}
    waiting = list(demands)
    while waiting:
        served = []
        for demand in waiting:
            # A little slack: three times a third is a whole device.
            enough_gpu = demand.resources.gpu <= free_gpus + 1e-9
            need = _places(host, demand)
            if given[demand.training] < demand.wanted and need <= free_places and enough_gpu:
                given[demand.training] += 1
                free_places -= need
                free_gpus -= demand.resources.gpu
                served.append(demand)
        waiting = served
    return given


def _places(host: Host, demand: Demand) -> int:
    """A worker that asks for more cores than there are gets them all rather than never start."""
    return min(cores(demand.resources), host.workers)
