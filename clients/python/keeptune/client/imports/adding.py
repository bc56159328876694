"""Known trials into a study: in chunks, and each once however often the import is run."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keeptune.client import values
from keeptune.client.results import enum_name
from keeptune.runtime.errors import AlreadyExists, InvalidInput, Violation
from keeptune.v1 import search_pb2

if TYPE_CHECKING:
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub

# What AddTrials takes at once.
_CHUNK = 1000
_PLACE = re.compile(r"^trials\[(\d+)\]\.?")


@dataclass(frozen=True)
class Known:
    """A trial that ended elsewhere; `place` says where it was read, e.g. "results.csv line 7"."""

    trial: search_pb2.Trial
    place: str


@dataclass(frozen=True)
class Imported:
    """What an import did. `present` were in the study already, `skipped` had not ended."""

    study: str
    added: int
    present: int = 0
    skipped: int = 0
    # What was assumed on the way, for people.
    notes: tuple[str, ...] = ()


async def make_study(
    search: SearchServiceAsyncStub, study_id: str, wanted: search_pb2.Study
) -> search_pb2.Study:
    """A new study, or the one of that name, made by an earlier run of the same import.

    Raises AlreadyExists when it has another space or other metrics.
    """
    request = search_pb2.CreateStudyRequest(study_id=study_id, study=wanted)
    if not study_id:
        return await search.CreateStudy(request)
    # Checked first: what is wrong with it shall not depend on whether the name is taken.
    request.validate_only = True
    try:
        checked = await search.CreateStudy(request)
        request.validate_only = False
        return await search.CreateStudy(request)
    except AlreadyExists:
        name = f"studies/{study_id}"
        found = await search.GetStudy(search_pb2.GetStudyRequest(name=name))
        draft = search_pb2.CreateStudyRequest(study=wanted, validate_only=True)
        checked = await search.CreateStudy(draft)
        if (found.space, list(found.metrics)) != (checked.space, list(checked.metrics)):
            raise AlreadyExists(
                f"{name} exists, with another space or other metrics",
                fix=f"give another name, or import into it as it is with --into {study_id}",
            ) from None
        return found


async def add(
    search: SearchServiceAsyncStub, study: search_pb2.Study, trials: Sequence[Known]
) -> Imported:
    """Adds those that the study has not got yet; 1000 in a call, each call all or nothing.

    An import that was interrupted goes on where it was. Raises InvalidInput naming the place of
    what is wrong; the chunks before it stay.
    """
    present = await _present(search, study.name)
    missing, found = [], 0
    for known in trials:
        key = _key(known.trial)
        if present[key]:
            present[key] -= 1
            found += 1
        else:
            missing.append(known)
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        request = search_pb2.AddTrialsRequest(
            study=study.name, trials=[known.trial for known in chunk]
        )
        # What was in the study before is part of it, so that two equal chunks are two requests.
        request.request_id = _request_id(study, found + start, request)
        try:
            await search.AddTrials(request)
        except InvalidInput as error:
            raise _located(error, chunk) from None
    return Imported(study.name, added=len(missing), present=found)


async def _present(search: SearchServiceAsyncStub, study: str) -> Counter[str]:
    found: Counter[str] = Counter()
    request = search_pb2.ListTrialsRequest(
        parent=study, page_size=_CHUNK, filter='source = "import"'
    )
    while True:
        page = await search.ListTrials(request)
        found.update(map(_key, page.trials))
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def _key(trial: search_pb2.Trial) -> str:
    """Equal for the same result, whether as it was read or as the service gives it back."""
    parameters = {
        # The service takes an integer for a float where a float is meant.
        name: float(value) if type(value) is int else value
        for name, value in values.parameters(trial.parameters).items()
    }
    metrics = sorted(trial.final_measurement.metrics.items())
    return repr((enum_name(trial), parameters, metrics))


def _request_id(study: search_pb2.Study, before: int, request: search_pb2.AddTrialsRequest) -> str:
    made = study.metadata.create_time.ToJsonString()
    content = request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(f"{study.name} {made} {before} ".encode() + content)
    return f"import/{digest.hexdigest()}"


def _located(error: InvalidInput, chunk: Sequence[Known]) -> InvalidInput:
    """The error by the places of what was read instead of those of the request."""
    mended = []
    for violation in error.violations:
        match = _PLACE.match(violation.field)
        if match is None:
            mended.append(violation)
            continue
        rest = violation.field[match.end() :]
        field = f"{chunk[int(match[1])].place}, {rest}" if rest else chunk[int(match[1])].place
        mended.append(Violation(field, violation.problem, violation.fix))
    return InvalidInput.many(mended, reason=error.reason)
