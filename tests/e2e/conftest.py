"""What the whole-product tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def serving_host() -> Path:
    """The environment that Triton runs in; `make setup` builds it."""
    found = Path(os.environ.get("KEEPTUNE_SERVING_HOST", _ROOT / ".serving-host"))
    if not found.is_dir():
        pytest.fail(f"{found} is missing: run `make setup`")
    return found.resolve()
