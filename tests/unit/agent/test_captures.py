from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest

from keeptune.agent.captures import CaptureLog
from keeptune.agent.outcomes import Joined, Remembered


def rows(*names: str, version: int = 1, size: int = 4, label: str = "7") -> list[Joined]:
    return [
        Joined(
            Remembered(name, version, 100.0 + i, ("7",), {"x": np.full((1, size), i, np.float32)}),
            0,
            label,
        )
        for i, name in enumerate(names)
    ]


def uploaded(log: CaptureLog) -> list[tuple[int, list[str]]]:
    found = []
    for entry in log.spool.entries():
        batch = log.read(entry)
        assert batch is not None
        with np.load(io.BytesIO(batch.content), allow_pickle=False) as archive:
            assert set(archive.files) == {"x", "y", "time", "request_id"}
            assert len(archive["x"]) == batch.rows
            assert batch.first_time == archive["time"].min()
            found.append((batch.version, archive["request_id"].tolist()))
    return found


def test_rows_become_batches_by_version_and_shape(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    log.append(rows("a", "b"))
    log.append(rows("c", version=2) + rows("d", size=5))
    assert log.rows_in_journal == 4
    assert log.seal() == 3
    assert log.rows_in_journal == 0
    assert sorted(uploaded(log)) == [(1, ["a", "b"]), (1, ["d"]), (2, ["c"])]
    assert log.seal() == 0


def test_what_was_acknowledged_survives_a_kill_and_a_torn_frame_is_dropped(
    tmp_path: Path,
) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    log.append(rows("a"))
    log.append(rows("b"))
    journal = tmp_path / "journal"
    whole = journal.read_bytes()
    log.append(rows("c"))
    journal.write_bytes(journal.read_bytes()[: len(whole) + 30])
    again = CaptureLog(tmp_path, max_bytes=10**6)
    assert uploaded(again) == [(1, ["a", "b"])]
    again.append(rows("d"))
    again.seal()
    assert [names for _, names in uploaded(again)] == [["a", "b"], ["d"]]


def test_sealing_twice_after_a_kill_makes_the_batch_once(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    log.append(rows("a"))
    journal = (tmp_path / "journal").read_bytes()
    log.seal()
    # Killed after the batch was in the spool, before the journal was gone.
    (tmp_path / "journal").write_bytes(journal)
    again = CaptureLog(tmp_path, max_bytes=10**6)
    assert uploaded(again) == [(1, ["a"])]


def test_a_full_spool_keeps_the_newest_and_counts(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path, max_bytes=4000)
    for name in "abcdef":
        log.append(rows(name))
        log.seal()
    kept = [names for _, names in uploaded(log)]
    assert kept[-1] == ["f"]
    assert len(kept) + log.spool.dropped == 6
    assert log.size <= 4000


def test_large_captures_are_split_into_uploads(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**8)
    for name in "abcde":
        log.append(rows(name, size=400_000))
    assert log.seal() == 3


def test_text_inputs_hold_no_pickles(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    words = np.array([[b"caf\xc3\xa9", "tea"]], dtype=object)
    log.append([Joined(Remembered("a", 1, 1.0, ("7",), {"x": words}), 0, "7")])
    log.seal()
    batch = log.read(log.spool.entries()[0])
    assert batch is not None
    with np.load(io.BytesIO(batch.content), allow_pickle=False) as archive:
        assert archive["x"].tolist() == [["café", "tea"]]


@pytest.mark.parametrize("name", ["y", "time", "request_id"])
def test_an_input_with_a_reserved_name_cannot_be_captured(tmp_path: Path, name: str) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    inputs = {name: np.zeros((1, 2), np.float32)}
    log.append([Joined(Remembered("a", 1, 1.0, ("7",), inputs), 0, "7")])
    assert log.seal() == 0
    assert log.rows_dropped == 1


def test_rows_that_arrive_while_the_journal_is_sealed_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CaptureLog(tmp_path, max_bytes=10**6)
    log.append(rows("a"))
    meanwhile = threading.Thread(target=log.append, args=[rows("b")])
    put = log.spool.put

    def slow_put(key: str, content: bytes) -> bool:
        if meanwhile.ident is None:
            meanwhile.start()
            meanwhile.join(0.2)
        return put(key, content)

    monkeypatch.setattr(log.spool, "put", slow_put)
    log.seal()
    meanwhile.join(10)
    assert log.rows_in_journal == 1
    log.seal()
    assert [names for _, names in uploaded(log)] == [["a"], ["b"]]
