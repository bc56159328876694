"""A bounded spool on disk for what the control plane has not taken yet.

One file a message, named by its place in the line and its key; whole or not there at all. When a
message does not fit, the oldest go: what is newest tells most about now. Every loss is counted,
and the count survives restarts. Calls block on the disk.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import structlog

from keeptune.agent.durable_file import is_partial, sync_folder, write_durably
from keeptune.runtime.errors import ResourceExhausted

log = structlog.get_logger()

_NAME = re.compile(r"(\d{12})-([A-Za-z0-9_.-]{1,160})\.msg")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,160}")
_DIGEST_BYTES = 32
_DROPPED = "dropped"


@dataclass(frozen=True)
class SpoolEntry:
    key: str
    size: int
    path: Path


class Spool:
    """Messages in the order they came; a key is in it once. One process uses one folder."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, SpoolEntry] = OrderedDict()
        self.bytes = 0
        self._next = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._recover()
        self.dropped = self._read_dropped()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def entries(self) -> tuple[SpoolEntry, ...]:
        """The oldest first."""
        return tuple(self._entries.values())

    def put(self, key: str, content: bytes) -> bool:
        """Durable when it returns True; at once True when the key is there already.

        False, and counted, when it is too large for the spool or the disk is full.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key: use 1 to 160 of A-Z a-z 0-9 _ . -")
        if key in self._entries:
            return True
        size = _DIGEST_BYTES + len(content)
        if size > self._max_bytes:
            self._count_dropped(1, key=key, why="it is larger than the spool")
            return False
        self._make_room(size)
        path = self._folder / f"{self._next:012d}-{key}.msg"
        try:
            write_durably(path, hashlib.sha256(content).digest() + content)
        except ResourceExhausted:
            self._count_dropped(1, key=key, why="the disk is full")
            return False
        self._next += 1
        self._add(SpoolEntry(key, size, path))
        return True

    def read(self, entry: SpoolEntry) -> bytes | None:
        """The message; None, counted and gone, when its file is damaged or was dropped."""
        try:
            stored = entry.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            self.remove(entry.key)
            self._count_dropped(1, key=entry.key, why="its file is damaged")
            return None
        return content

    def remove(self, key: str) -> None:
        """After the message was taken. Idempotent."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
            entry.path.unlink(missing_ok=True)
            sync_folder(self._folder)

    def _make_room(self, size: int) -> None:
        gone = 0
        while self._entries and self.bytes + size > self._max_bytes:
            self.remove(next(iter(self._entries)))
            gone += 1
        if gone:
            self._count_dropped(gone, key="", why="the spool is full")

    def _recover(self) -> None:
        found = []
        for path in self._folder.iterdir():
            name = _NAME.fullmatch(path.name)
            if name is not None:
                found.append((int(name[1]), name[2], path))
            elif is_partial(path):
                path.unlink()
        for number, key, path in sorted(found):
            self._add(SpoolEntry(key, path.stat().st_size, path))
            self._next = number + 1

    def _add(self, entry: SpoolEntry) -> None:
        self._entries[entry.key] = entry
        self.bytes += entry.size

    def _read_dropped(self) -> int:
        try:
            return int((self._folder / _DROPPED).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _count_dropped(self, count: int, *, key: str, why: str) -> None:
        self.dropped += count
        log.warning("spool.dropped", spool=self._folder.name, key=key, messages=count, why=why)
        try:
            write_durably(self._folder / _DROPPED, str(self.dropped).encode())
        except ResourceExhausted:
            # The count in memory is right until a restart; there is no room for more.
            return
