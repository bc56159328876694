from __future__ import annotations

import os
from pathlib import Path

import pytest

from keeptune.agent import durable_file
from keeptune.agent.spool import Spool


def contents(spool: Spool) -> list[bytes | None]:
    return [spool.read(entry) for entry in spool.entries()]


def test_messages_come_back_in_order_and_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000)
    assert spool.put("b", b"first")
    assert spool.put("a", b"second")
    assert spool.put("b", b"never")
    assert contents(spool) == [b"first", b"second"]
    spool.remove("b")
    spool.remove("b")
    assert contents(spool) == [b"second"]
    assert "b" not in spool


def test_a_restarted_spool_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000)
    for number in range(12):
        spool.put(f"k{number}", b"%d" % number)
    spool.remove("k3")
    # What a kill leaves of a write.
    (tmp_path / ".tmp-000000000099-x.msg").write_bytes(b"half")
    again = Spool(tmp_path, max_bytes=10_000)
    assert [entry.key for entry in again.entries()] == [f"k{n}" for n in range(12) if n != 3]
    assert again.bytes == spool.bytes
    again.put("new", b"last")
    assert contents(again)[-1] == b"last"
    assert not list(tmp_path.glob(".tmp*"))


def test_the_oldest_go_when_it_is_full_and_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=3 * (32 + 100))
    for number in range(5):
        assert spool.put(f"k{number}", bytes(100))
    assert [entry.key for entry in spool.entries()] == ["k2", "k3", "k4"]
    assert not spool.put("huge", bytes(1000))
    assert spool.dropped == 3
    assert spool.bytes <= 3 * 132
    assert Spool(tmp_path, max_bytes=10_000).dropped == 3


def test_a_damaged_message_is_dropped_not_delivered(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000)
    spool.put("a", b"content")
    entry = spool.entries()[0]
    entry.path.write_bytes(entry.path.read_bytes()[:-1] + b"X")
    assert spool.read(entry) is None
    assert (len(spool), spool.dropped) == (0, 1)


def test_a_full_disk_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, max_bytes=10_000)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable_file.os, "fsync", full)
    assert not spool.put("a", b"content")
    monkeypatch.undo()
    assert spool.dropped == 1
    assert os.listdir(tmp_path) == []
    assert spool.put("a", b"content")


@pytest.mark.parametrize("key", ["", "../a", "a/b", "a b", "x" * 161])
def test_keys_name_files(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        Spool(tmp_path, max_bytes=100).put(key, b"")
