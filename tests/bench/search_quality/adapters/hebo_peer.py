"""HEBO, which won the NeurIPS 2020 challenge. It draws from the global states of its libraries."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import torch
from pymoo.config import Config

Config.warnings["not_compiled"] = False

from hebo.design_space.design_space import DesignSpace  # noqa: E402
from hebo.optimizers.hebo import HEBO  # noqa: E402

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange  # noqa: E402
from keeptune.search.space import Assignment, Parameter  # noqa: E402
from tests.bench.search_quality.adapters import flat  # noqa: E402
from tests.bench.search_quality.peers import Settings  # noqa: E402

warnings.filterwarnings("ignore")
logging.getLogger("paramz").setLevel(logging.ERROR)


class HeboPeer:
    def __init__(self, settings: Settings) -> None:
        np.random.seed(settings.seed)
        torch.manual_seed(settings.seed)
        self._space = settings.space
        parameters = [_parameter(p) for p in self._space.free]
        self._hebo = HEBO(DesignSpace().parse(parameters), scramble_seed=settings.seed)
        self._asked: Any = None

    def ask(self, count: int) -> Sequence[Assignment]:
        # It prints what its model thinks of the data.
        with contextlib.redirect_stdout(io.StringIO()):
            self._asked = self._hebo.suggest(n_suggestions=count)
        return [flat.assignment(self._space, row) for row in self._asked.to_dict("records")]

    def tell(self, losses: Sequence[float]) -> None:
        self._hebo.observe(self._asked, np.array(losses)[:, None])


def _parameter(parameter: Parameter) -> dict[str, Any]:
    domain = parameter.domain
    match domain:
        case FloatRange() | IntRange():
            whole = isinstance(domain, IntRange)
            linear, log = ("int", "pow_int") if whole else ("num", "pow")
            kind = {"type": log, "base": 10} if domain.log else {"type": linear}
            return {"name": parameter.name, "lb": domain.min, "ub": domain.max, **kind}
        case Categories():
            return {"name": parameter.name, "type": "cat", "categories": flat.indices(domain)}
        case Fixed():
            raise ValueError(f"{parameter.name} leaves nothing to choose")
        case _:
            assert_never(domain)


def make(variant: str, settings: Settings) -> HeboPeer:
    return HeboPeer(settings)
