"""Settings of the search service."""

from __future__ import annotations

from pydantic import Field

from keeptune.runtime.config import Settings


class SearchSettings(Settings):
    """Section `search`."""

    database: str = Field("", description="database URL; empty = search.db in the data folder")
    sweep_seconds: float = Field(
        1.0, gt=0, le=60, description="pause between looks for leases that have run out"
    )
    suggest_threads: int = Field(2, ge=1, le=64, description="threads that compute suggestions")
    hot_studies: int = Field(
        64, ge=1, description="studies whose optimiser is kept in memory; others are rebuilt"
    )
