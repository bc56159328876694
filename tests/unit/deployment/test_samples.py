"""Captured samples as arrays."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from keeptune.deployment import samples
from keeptune.deployment.model import DataType, Signature, Task, Tensor
from keeptune.runtime.errors import InvalidInput

SIGNATURE = Signature(
    Task.CLASSIFICATION,
    inputs=(Tensor("image", DataType.FLOAT32, (1, 2, 2)),),
    outputs=(Tensor("probabilities", DataType.FLOAT32, (2,)),),
    classes=("0", "1"),
)
LIMIT = 1 << 20


def arrays(rows: int = 3, **changes: Any) -> dict[str, Any]:
    found = {
        "image": np.arange(rows * 4, dtype=np.float32).reshape(rows, 1, 2, 2),
        "y": np.array([str(row % 2) for row in range(rows)]),
        "time": np.arange(rows, dtype=np.float64) + 1000.0,
        "request_id": np.array([f"r{row}" for row in range(rows)]),
    }
    return {k: v for k, v in {**found, **changes}.items() if v is not None}


def npz(**content: Any) -> bytes:
    target = io.BytesIO()
    np.savez(target, **content)
    return target.getvalue()


def read(data: bytes, signature: Signature = SIGNATURE) -> samples.Samples:
    return samples.read(data, signature, max_bytes=LIMIT, field="data")


def unpacked(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)


def test_what_was_uploaded_comes_out_as_a_dataset() -> None:
    packed = unpacked(samples.pack(read(npz(**arrays()))))
    assert set(packed) == {"x", "y", "time"}
    np.testing.assert_array_equal(packed["x"], arrays()["image"])
    assert packed["y"].tolist() == ["0", "1", "0"]


@pytest.mark.parametrize(
    "outcomes",
    [np.array([0, 1, 0]), np.array([0.0, 1.0, 0.0]), np.array([b"0", b"1", b"0"])],
)
def test_labels_are_text_however_they_came(outcomes: Any) -> None:
    assert read(npz(**arrays(y=outcomes))).outcomes.tolist() == ["0", "1", "0"]


def test_rows_without_an_outcome_are_left_out() -> None:
    kept = samples.labelled(read(npz(**arrays(y=np.array(["0", "", "1"])))))
    assert kept.request_ids.tolist() == ["r0", "r2"]
    regression = Signature(Task.REGRESSION, SIGNATURE.inputs, SIGNATURE.outputs)
    numbers = read(npz(**arrays(y=np.array([1.5, np.nan, -2.0]))), regression)
    assert samples.labelled(numbers).outcomes.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (arrays(y=None), "data"),
        (arrays(extra=np.zeros(3)), "data"),
        (arrays(y=np.zeros((3, 2))), "data[y]"),
        (arrays(y=np.array(["0", "1"])), "data[y]"),
        (arrays(image=np.zeros((3, 2, 2), np.float32)), "data[image]"),
        (arrays(image=np.zeros((3, 1, 2, 2), np.complex64)), "data[image]"),
        (arrays(time=np.array([1.0, np.inf, 2.0])), "data[time]"),
        (arrays(time=np.array(["a", "b", "c"])), "data[time]"),
        (arrays(request_id=np.zeros((3, 3))), "data[request_id]"),
        (arrays(y=np.array([0, None, object()], dtype=object)), "data[y]"),
    ],
)
def test_a_wrong_array_is_named(content: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(npz(**content))
    assert caught.value.field == field


def test_a_pickle_is_never_loaded() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("the pickle was loaded",))

    content = arrays(y=np.array([Trap(), Trap(), Trap()], dtype=object))
    with pytest.raises(InvalidInput, match="pickle"):
        read(npz(**content))


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("image", "y", "time", "request_id"):
            archive.writestr(f"{name}.npy", bytes(LIMIT))
    assert len(target.getvalue()) < LIMIT / 10
    with pytest.raises(InvalidInput, match="unpacks to more"):
        read(target.getvalue())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", npz(**arrays())[:-40]])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(data)
    assert caught.value.field == "data"


def test_hosts_are_joined_in_time_and_what_one_told_twice_counts_once() -> None:
    first = read(npz(**arrays()))
    later = read(npz(**arrays(time=np.array([1000.5, 1001.5, 1002.5]))))
    joined = samples.join([("hosts/a", first), ("hosts/a", first), ("hosts/b", later)])
    assert joined.times.tolist() == [1000.0, 1000.5, 1001.0, 1001.5, 1002.0, 1002.5]


def test_the_rows_of_one_batch_share_a_request_id_and_all_count() -> None:
    batch = read(npz(**arrays(request_id=np.array(["r", "r", "r"]))))
    assert len(samples.join([("hosts/a", batch), ("hosts/a", batch)])) == 3


def test_text_inputs_that_differ_only_in_padding_are_the_same() -> None:
    signature = Signature(
        Task.CLASSIFICATION,
        (Tensor("word", DataType.STRING, ()),),
        SIGNATURE.outputs,
        SIGNATURE.classes,
    )
    short = arrays(2, image=None, word=np.array(["a", "b"]))
    longer = arrays(3, image=None, word=np.array(["a", "b", "much longer"]))
    joined = samples.join(
        [("hosts/a", read(npz(**short), signature)), ("hosts/a", read(npz(**longer), signature))]
    )
    assert joined.inputs["word"].tolist() == ["a", "b", "much longer"]


@pytest.mark.parametrize(
    ("rows", "fraction", "sizes"),
    [(8, 0.25, (6, 2)), (3, 0.0, (3, 0)), (1, 0.9, (1, 0)), (10, 0.99, (1, 9))],
)
def test_the_newest_share_is_held_out(rows: int, fraction: float, sizes: tuple[int, int]) -> None:
    older, recent = samples.split(read(npz(**arrays(rows))), fraction)
    assert (len(older), len(recent)) == sizes
    if len(recent):
        assert older.times.max() < recent.times.min()


def test_the_window_has_both_ends() -> None:
    start, end = datetime.fromtimestamp(1001, UTC), datetime.fromtimestamp(1002, UTC)
    kept = samples.within(read(npz(**arrays(5))), start, end)
    assert kept.times.tolist() == [1001.0, 1002.0]
    assert samples.newest(kept, 1).times.tolist() == [1002.0]
