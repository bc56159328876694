"""The nevergrad module, tamed: imported late and repeatably, its global states kept apart.

- Most of its optimisers draw from `parametrization.random_state`, but some, and the libraries below
  them, draw from the global states of `numpy.random` and `random`. So each optimiser has global
  states of its own, put in place while it has its `Turn`; only one computes at a time.
- Those that wrap another library's optimiser, maybe deep inside a portfolio, run it on a thread of
  its own, which goes on after a `tell` and would wait for ever if asked twice without one. See
  `threads_of` and `settle`.
- Some of the registered optimisers are drawn by chance when the module is imported. So it is
  imported under a fixed seed.
"""

from __future__ import annotations

import functools
import math
import random
import threading
import time
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keeptune.search.optimizers import seeds

_SETTLE_SECONDS = 120.0


class Turn:
    """Global random states of one's own, in place while one has the turn."""

    _lock = threading.Lock()

    def __init__(self, rng: np.random.RandomState) -> None:
        self._numpy: Any = rng.get_state()
        self._python: Any = random.Random(int(rng.randint(2**31))).getstate()

    @contextmanager
    def taken(self) -> Iterator[None]:
        with self._lock:
            numpy_before, python_before = np.random.get_state(), random.getstate()
            np.random.set_state(self._numpy)
            random.setstate(self._python)
            try:
                yield
            finally:
                self._numpy, self._python = np.random.get_state(), random.getstate()
                np.random.set_state(numpy_before)
                random.setstate(python_before)


@functools.cache
def library() -> types.ModuleType:
    """The nevergrad module; importing it takes seconds, so it is put off until it is needed."""
    with Turn(seeds.legacy(0)).taken(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nevergrad

        _mend()
    # They are for whoever writes the loop around an optimiser, and come with every step.
    warnings.filterwarnings("ignore", category=nevergrad.errors.NevergradWarning)
    warnings.filterwarnings("ignore", module=r"(nevergrad|cma|sklearn|scipy)\b")
    module: types.ModuleType = nevergrad
    return module


def threads_of(optimizer: Any) -> list[Any]:
    """The threads of wrapped optimisers, however deep they lie in this one."""
    base = library().optimizers.base.Optimizer
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [optimizer]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, base) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(vars(value).values())
            thread = getattr(value, "_messaging_thread", None)
            if thread is not None:
                found.append(thread)
    return found


def settle(threads: list[Any]) -> None:
    """Waits until each thread has ended, or has its next point ready and waits for the result."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    for thread in threads:
        while thread.is_alive() and thread.messages_ask.empty():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no point after {_SETTLE_SECONDS:.0f} s of computing")
            time.sleep(0.0002)


def _mend() -> None:
    """Small repairs of nevergrad 1.0.12 and cma 4.5, where they meet newer libraries or servers."""
    import cma
    from nevergrad.optimization import metamodel, recaster

    class DaemonThread(recaster._MessagingThread):  # type: ignore[misc]
        """Does not keep a server from ending."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.daemon = True

    recaster._MessagingThread = DaemonThread
    # numpy 2.4 makes a scalar of an array without dimensions only; these have one, of length 1.
    metamodel.float = lambda value: float(np.asarray(value).item())
    # By default cma seeds numpy's global state by the time of day.
    cma.CMAOptions.defaults()["seed"] = math.nan
