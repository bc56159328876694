"""Whole imports: from what was read to a study with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keeptune.client import manifest, nouns
from keeptune.client.imports import csv_table, optuna_study
from keeptune.client.imports.adding import Imported, add, make_study
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import search_pb2

if TYPE_CHECKING:
    from keeptune.client.imports.optuna_study import OptunaStudy
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub


async def from_csv(
    search: SearchServiceAsyncStub,
    file: Path,
    *,
    into: str = "",
    study: Path | Mapping[str, Any] | None = None,
    ignore: Collection[str] = (),
) -> Imported:
    """Into an existing study, or into a new one that a manifest describes; one of both."""
    if bool(into) == (study is not None):
        raise InvalidInput(
            field="into",
            problem="and a manifest are both given" if into else "is missing, as is a manifest",
            fix="name an existing study, or describe a new one with its space and metrics",
        )
    if study is None:
        found = await _existing(search, into)
        table = csv_table.read(file, found, ignore)
    else:
        wanted = manifest.load(study, search_pb2.Study)
        name = manifest.take_id(wanted, "studies")
        # First of all, so that a wrong table leaves no empty study.
        table = csv_table.read(file, wanted, ignore)
        found = await make_study(search, name, wanted)
    return replace(await add(search, found, table.trials), skipped=table.skipped)


async def from_optuna(
    search: SearchServiceAsyncStub,
    study: OptunaStudy,
    *,
    into: str = "",
    name: str = "",
    manifest_file: Path | Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    budget: int = 100,
) -> Imported:
    """Into an existing study, one that a manifest describes, or one made after Optuna's own."""
    if into or manifest_file is not None:
        if into:
            found = await _existing(search, into)
        else:
            assert manifest_file is not None
            wanted = manifest.load(manifest_file, search_pb2.Study)
            found = await make_study(search, manifest.take_id(wanted, "studies"), wanted)
        given = metrics or [
            metric.name
            for metric in found.metrics
            if metric.role != search_pb2.METRIC_ROLE_CONSTRAINT
        ]
        trials, skipped = optuna_study.trials_of(study, given)
        return replace(await add(search, found, trials), skipped=skipped)
    converted = optuna_study.convert(study, metrics=metrics, budget=budget)
    made = await make_study(
        search, name or optuna_study.study_id(study.study_name), converted.study
    )
    done = await add(search, made, converted.trials)
    return replace(done, skipped=converted.skipped, notes=converted.notes)


async def _existing(search: SearchServiceAsyncStub, name: str) -> search_pb2.Study:
    full_name = nouns.BY_NOUN["study"].qualified(name)
    return await search.GetStudy(search_pb2.GetStudyRequest(name=full_name))
