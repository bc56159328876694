"""The book of signals: what is wrong with the served models, told once and kept until heard.

The same trouble keeps its id from the first finding to its end, over restarts too. For a
signal that a retune could mend one is asked for until it is granted (started, or joined to one
under way), and again much later should the trouble outlast it. So too when the answer was that
the evidence is stale: a version that is being rolled out is not the one that should serve yet.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import structlog

from keeptune.agent.detectors.base import Finding
from keeptune.agent.durable_file import write_durably
from keeptune.agent.evidence import signal_of
from keeptune.v1 import monitoring_pb2

log = structlog.get_logger()

KEPT = 200
# Trouble that a granted retune, or the end of a stale version, has not ended by then is told anew.
ASK_AGAIN_SECONDS = 900.0

Kind = monitoring_pb2.SignalKind
# Retraining mends neither errors nor latency.
_MENDED_BY_RETUNE = frozenset(
    {monitoring_pb2.SIGNAL_KIND_DRIFT, monitoring_pb2.SIGNAL_KIND_ACCURACY}
)


class Request(StrEnum):
    """Where the request for a retune stands."""

    NONE = "NONE"
    WANTED = "WANTED"
    ENDED = "ENDED"


@dataclass(frozen=True)
class Entry:
    """One signal. `active`: the trouble is still there. `told`: sent on the agents' link.

    `retry_at`: do not ask for the retune before (unix seconds). `granted`: how many were.
    `answer`: what was said last. `refused`: that was no.
    """

    signal: monitoring_pb2.Signal
    revision: int
    active: bool = True
    told: bool = False
    request: Request = Request.NONE
    retry_at: float = 0.0
    granted: int = 0
    answer: str = ""
    refused: bool = False

    @property
    def request_id(self) -> str:
        """The same until the request is granted."""
        return f"{self.signal.id}-{self.granted + 1}" if self.granted else self.signal.id

    @property
    def waits(self) -> bool:
        """Whether the control plane has yet to hear of it."""
        return not self.told or (self.request is Request.WANTED and not self.granted)


class SignalBook:
    """Signals of one host, durable. Calls that change it block on the disk."""

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self._host = host
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entries: dict[str, Entry] = {}
        for path in folder.glob("*.json"):
            entry = _from_json(path.read_text())
            self._entries[entry.signal.id] = entry
        self.revision = max((entry.revision for entry in self._entries.values()), default=0)

    def __iter__(self) -> Iterator[Entry]:
        """By revision."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.revision))

    def after(self, revision: int) -> list[Entry]:
        return [entry for entry in self if entry.revision > revision]

    def observe(
        self, model: str, version: int, kind: Kind.ValueType, finding: Finding | None
    ) -> Entry | None:
        """What a detector says now; returns the signal when it is new."""
        there = self._active(model, version, kind)
        if finding is None:
            if there is not None:
                self._put(replace(there, active=False, request=_unwanted(there.request)))
                log.info("signal.ended", signal=there.signal.id)
            return None
        if there is not None:
            return None
        signal = signal_of(self._host, model, version, kind, finding)
        request = Request.WANTED if kind in _MENDED_BY_RETUNE else Request.NONE
        entry = Entry(signal, self.revision + 1, request=request)
        self._put(entry)
        self.revision = entry.revision
        log.warning("signal.raised", signal=signal.id, summary=signal.summary)
        self._forget_oldest()
        return entry

    def end_others(self, model: str, version: int) -> None:
        """Signals about versions of the model that do not serve any more are over."""
        for entry in list(self._entries.values()):
            signal = entry.signal
            if (
                entry.active
                and signal.model == f"models/{model}"
                and signal.version != f"models/{model}/versions/{version}"
            ):
                self._put(replace(entry, active=False, request=_unwanted(entry.request)))

    def wanted(self, now: float) -> list[Entry]:
        """Signals for which a retune is to be asked now."""
        return [
            entry for entry in self if entry.request is Request.WANTED and entry.retry_at <= now
        ]

    def granted(self, signal_id: str, answer: str, now: float) -> None:
        entry = self._entries.get(signal_id)
        if entry is not None:
            self._change(
                signal_id,
                granted=entry.granted + 1,
                retry_at=now + ASK_AGAIN_SECONDS,
                answer=answer,
                refused=False,
            )

    def refused(self, signal_id: str, answer: str, retry_at: float) -> None:
        self._change(signal_id, retry_at=retry_at, answer=answer, refused=True)

    def told(self, signal_id: str) -> None:
        self._change(signal_id, told=True)

    def _active(self, model: str, version: int, kind: Kind.ValueType) -> Entry | None:
        name = f"models/{model}/versions/{version}"
        for entry in self._entries.values():
            if entry.active and entry.signal.version == name and entry.signal.kind == kind:
                return entry
        return None

    def _change(self, signal_id: str, **changes: object) -> None:
        entry = self._entries.get(signal_id)
        if entry is not None:
            self._put(replace(entry, **changes))  # type: ignore[arg-type]

    def _put(self, entry: Entry) -> None:
        write_durably(self._path(entry.signal.id), _to_json(entry))
        self._entries[entry.signal.id] = entry

    def _forget_oldest(self) -> None:
        over = [entry for entry in self if not entry.active]
        for entry in over[: max(0, len(self._entries) - KEPT)]:
            del self._entries[entry.signal.id]
            self._path(entry.signal.id).unlink(missing_ok=True)

    def _path(self, signal_id: str) -> Path:
        return self._folder / f"{signal_id}.json"


def _unwanted(request: Request) -> Request:
    """A retune that was not yet granted is not wanted once the trouble is over."""
    return Request.ENDED if request is Request.WANTED else request


def _to_json(entry: Entry) -> bytes:
    content = {
        "signal": base64.b64encode(entry.signal.SerializeToString()).decode(),
        "summary": entry.signal.summary,
        "revision": entry.revision,
        "active": entry.active,
        "told": entry.told,
        "request": entry.request,
        "retry_at": entry.retry_at,
        "granted": entry.granted,
        "answer": entry.answer,
        "refused": entry.refused,
    }
    return json.dumps(content, indent=1).encode()


def _from_json(text: str) -> Entry:
    content = json.loads(text)
    return Entry(
        signal=monitoring_pb2.Signal.FromString(base64.b64decode(content["signal"])),
        revision=content["revision"],
        active=content["active"],
        told=content["told"],
        request=Request(content["request"]),
        retry_at=content["retry_at"],
        granted=content["granted"],
        answer=content["answer"],
        # Older agents did not write it.
        refused=content.get("refused", False),
    )
