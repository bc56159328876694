from __future__ import annotations

import random
import struct
from datetime import UTC, datetime

import numpy as np
import pytest

from keeptune.agent import datagram
from keeptune.agent.datagram import DatagramError
from keeptune.agent.sampling import (
    Sample,
    SampleQueue,
    ShimSampler,
    checked_rates,
    choose_sampling,
)
from keeptune.agent.tensors import decode, encode
from keeptune.agent.trace_file import is_complete, read_traces
from keeptune.agent.triton import CANARY_ID
from keeptune.agent.triton_model import ServerInfo
from keeptune.runtime.errors import FailedPrecondition, InvalidInput


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text.encode())) + text.encode()


def _tensor(name: str, array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    raw = encode(array)
    shape = struct.pack(f"<B{array.ndim}q", array.ndim, *array.shape)
    return _text(name) + b"\x04FP32" + shape + struct.pack("<I", len(raw)) + raw


def _datagram() -> bytes:
    time_ns = 1_700_000_000_123_456_789
    head = struct.pack("<4sBBBxQQQQQ", b"KTS1", 0, 1, 1, time_ns, 99, 5, 2, 3)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    return head + _text("digits") + _text("id-ü") + _tensor("x", x) + _tensor("y", x * 2)


def _sample(request_id: str, size: int = 1) -> Sample:
    x = np.zeros(size, np.uint8)
    return Sample(request_id, "m", 1, datetime.now(UTC), {"x": x}, {})


def test_datagram_is_read_as_it_was_sent() -> None:
    got = datagram.decode(_datagram())
    assert (got.model, got.request_id, got.version) == ("digits", "id-ü", 3)
    assert (got.instance, got.taken, got.dropped) == (99, 5, 2)
    assert got.time == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert got.inputs["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert got.outputs["y"].dtype == np.float32
    got.inputs["x"][0, 0] = 7  # a copy of its own, that outlives the datagram


def test_damaged_datagrams_raise_only_their_own_error() -> None:
    whole = _datagram()
    for length in range(len(whole)):
        with pytest.raises(DatagramError):
            datagram.decode(whole[:length])
    with pytest.raises(DatagramError):
        datagram.decode(whole + b"\0")
    rng = random.Random(5)
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            datagram.decode(bytes(damaged))
        except DatagramError:
            continue


async def test_queue_throws_away_the_oldest_by_number_and_by_bytes() -> None:
    queue = SampleQueue(max_samples=3, max_bytes=100)
    for number in range(5):
        queue.put(_sample(str(number)))
    assert [one.request_id for one in await queue.take(10)] == ["2", "3", "4"]
    assert queue.overflowed == 2
    queue.put(_sample("a", 60))
    queue.put(_sample("b", 60))
    queue.put(_sample("c", 1000))
    assert queue.overflowed == 5
    queue.put(_sample("d", 60))
    assert [one.request_id for one in await queue.take(1)] == ["d"]


async def test_our_own_canaries_are_no_samples() -> None:
    queue = SampleQueue()
    queue.put(_sample(CANARY_ID))
    queue.put(_sample("user"))
    assert [one.request_id for one in await queue.take(10)] == ["user"]


@pytest.mark.parametrize("every", [0, -1, 1_000_001])
def test_unsound_rate_is_refused(every: int, tmp_path: object) -> None:
    with pytest.raises(InvalidInput, match="rates") as caught:
        checked_rates({"digits": every})
    assert caught.value.field == "rates[digits]"
    sampler = ShimSampler(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        sampler.set_rates({"digits": every})


def test_way_of_sampling_follows_what_is_sound() -> None:
    old, new = ServerInfo("2.51.0", ()), ServerInfo("2.57.0", ())
    assert choose_sampling(old, shim_serves=True) == "shim"
    assert choose_sampling(new, shim_serves=True) == "shim"
    assert choose_sampling(new, shim_serves=False) == "trace"
    for unsound in (old, ServerInfo("unknown", ())):
        with pytest.raises(FailedPrecondition) as caught:
            choose_sampling(unsound, shim_serves=False)
        assert caught.value.reason == "TRACING_UNSAFE"


def test_trace_file_with_unescaped_strings_is_read() -> None:
    text = (
        '[{"id":1,"model_name":"m","model_version":2,"request_id":"a "},{"id":9,"x":"b"},'
        '{"id":1,"timestamps":[{"name":"REQUEST_END","ns":50}]},'
        '{"id":1,"activity":"TENSOR_QUEUE_INPUT","tensor":'
        '{"name":"x","data":"1.5,-2,3e+20","shape":"1,3","dtype":"FP32"}},'
        '{"id":1,"activity":"TENSOR_BACKEND_OUTPUT","tensor":'
        '{"name":"y","data":"\x01,\xff,,","shape":"3","dtype":"INT8"}},'
        '{"id":2,"model_name":"m","model_version":2,"request_id":"half"},'
        '{"id":2,"activity":"TENSOR_QUEUE_INPUT","tensor":'
        '{"name":"x","data":"","shape":"1,2","dtype":"FP16"}}]'
    )
    assert is_complete(text)
    assert not is_complete(text[:-1])
    first, second = read_traces(text)
    assert (first.model, first.version, first.end_ns) == ("m", 2, 50)
    assert first.inputs["x"].tolist() == [[1.5, -2.0, np.float32(3e20)]]
    assert first.outputs["y"].tolist() == [1, -1, 44]
    assert second.unreadable


def test_strings_survive_encoding() -> None:
    array = np.array([["", "ü"], ["a" * 300, "\0"]], dtype=object)
    got = decode("BYTES", (2, 2), encode(array))
    assert got.tolist() == [[b"", "ü".encode()], [b"a" * 300, b"\0"]]
