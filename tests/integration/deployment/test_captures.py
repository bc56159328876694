"""Captured samples, from the hosts' uploads to datasets that training can read."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.runtime.artifacts import ArtifactStore, from_proto, to_proto
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.convert import to_timestamp
from keeptune.runtime.datasets import read_dataset
from keeptune.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    KeeptuneError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import deployment_pb2_grpc
from tests.integration.deployment.control_plane import ControlPlane, running
from tests.integration.deployment.judged import Evaluations
from tests.integration.deployment.test_link import enroll

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def batch(first: int, rows: int, **changes: Any) -> bytes:
    """Rows numbered from `first`, one a second, as an NPZ."""
    numbers = np.arange(first, first + rows)
    arrays = {
        "features": np.stack([numbers, -numbers], axis=1).astype(np.float32),
        "y": np.where(numbers % 2 == 0, "left", "right"),
        "time": START + numbers.astype(np.float64),
        "request_id": np.array([f"r{number}" for number in numbers]),
    }
    target = io.BytesIO()
    np.savez(target, **(arrays | changes))
    return target.getvalue()


def parts(header: pb.CaptureHeader, data: bytes) -> Iterable[pb.UploadCaptureRequest]:
    yield pb.UploadCaptureRequest(header=header)
    for position in range(0, len(data), 1 << 16):
        yield pb.UploadCaptureRequest(data=data[position : position + (1 << 16)])


async def upload(
    plane: ControlPlane,
    data: bytes,
    rows: int,
    request_id: str,
    host: str = "hosts/a",
    link: Any = None,
    **header: Any,
) -> int:
    fields = {
        "request_id": request_id,
        "host": host,
        "model": "models/digits",
        "version": "models/digits/versions/1",
        "rows": rows,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    message = pb.CaptureHeader(**(fields | header))
    answer = await calling((link or plane.link).UploadCapture(parts(message, data)))
    return int(answer.rows)


async def export(plane: ControlPlane, request_id: str = "", **fields: Any) -> pb.CaptureExport:
    request = pb.ExportCapturesRequest(request_id=request_id, model="models/digits", **fields)
    found: pb.CaptureExport = await calling(plane.stub.ExportCaptures(request))
    return found


@pytest.fixture
async def capturing(plane: ControlPlane) -> ControlPlane:
    await plane.model()
    await plane.version(plane.evaluations.good[0])
    return plane


async def test_uploads_of_all_hosts_become_one_dataset(capturing: ControlPlane) -> None:
    plane = capturing
    assert await upload(plane, batch(0, 30), 30, "u1") == 30
    assert await upload(plane, batch(30, 10), 10, "u2", host="hosts/b") == 10
    # Told again in another upload: counts once.
    assert await upload(plane, batch(20, 10), 10, "u3") == 10
    found = await export(plane, "r/captures", min_rows=40)
    assert (found.training_rows, found.recent_rows) == (30, 10)
    assert found.first_time.ToDatetime(tzinfo=UTC).timestamp() == START
    assert found.last_time.ToDatetime(tzinfo=UTC).timestamp() == START + 39
    training = read_dataset(found.training, plane.artifacts)
    recent = read_dataset(found.recent, plane.artifacts)
    assert training.x[:, 0].tolist() == list(range(30))
    assert recent.x[:, 0].tolist() == list(range(30, 40))
    assert training.y.tolist() == ["left", "right"] * 15
    assert training.x.dtype == np.float32

    await upload(plane, batch(100, 10), 10, "u4")
    assert await export(plane, "r/captures", min_rows=40) == found, "frozen by its request_id"
    assert (await export(plane, min_rows=40)).training_rows > 30


async def test_the_window_the_newest_and_the_share(capturing: ControlPlane) -> None:
    plane = capturing
    await upload(plane, batch(0, 40), 40, "u1")
    onset = to_timestamp(datetime.fromtimestamp(START + 20, UTC))
    found = await export(plane, start_time=onset, max_rows=10, recent_fraction=0.5)
    assert (found.training_rows, found.recent_rows) == (5, 5)
    assert read_dataset(found.training, plane.artifacts).x[:, 0].tolist() == list(range(30, 35))
    whole = await export(plane, recent_fraction=0.0)
    assert (whole.training_rows, whole.recent_rows) == (40, 0)
    assert not whole.HasField("recent")


async def test_too_few_samples_are_counted_not_exported(capturing: ControlPlane) -> None:
    plane = capturing
    unlabelled = batch(0, 10, y=np.array([""] * 8 + ["left", "right"]))
    await upload(plane, unlabelled, 10, "u1")
    for min_rows, rows in ((50, "10"), (5, "2")):
        with pytest.raises(FailedPrecondition, match=f"{rows} of {min_rows} labelled") as caught:
            await export(plane, "r/captures", min_rows=min_rows)
        assert caught.value.reason == "TOO_FEW_CAPTURES"
        assert caught.value.metadata["rows"] == rows
    # A refusal is not kept: the same request is answered once there is enough.
    await upload(plane, batch(10, 10), 10, "u2")
    assert (await export(plane, "r/captures", min_rows=5)).training_rows == 9
    with pytest.raises(NotFound):
        await calling(plane.stub.ExportCaptures(pb.ExportCapturesRequest(model="models/nobody")))


async def test_an_upload_that_is_repeated_is_stored_once(capturing: ControlPlane) -> None:
    plane = capturing
    for _ in range(3):
        assert await upload(plane, batch(0, 10), 10, "u1") == 10
    with pytest.raises(InvalidInput, match="used for another upload"):
        await upload(plane, batch(5, 10), 10, "u1")
    assert await upload(plane, batch(50, 10), 10, "u1", host="hosts/b") == 10
    assert (await export(plane, recent_fraction=0.0)).training_rows == 20


@pytest.mark.parametrize(
    ("data", "rows", "header", "kind", "field"),
    [
        (batch(0, 4), 4, {"sha256": "0" * 64}, InvalidInput, "header.sha256"),
        (batch(0, 4), 5, {}, InvalidInput, "header.rows"),
        (batch(0, 0), 0, {}, InvalidInput, "header.rows"),
        (batch(0, 4)[:-50], 4, {}, InvalidInput, "data"),
        (batch(0, 4, features=np.zeros((4, 3))), 4, {}, InvalidInput, "data[features]"),
        (batch(0, 4, time=np.full(4, 1e300)), 4, {}, InvalidInput, "data[time]"),
        (b"x" * (3 << 20), 4, {}, InvalidInput, "data"),
        (batch(0, 4), 4, {"host": "nobody"}, InvalidInput, "header.host"),
        (batch(0, 4), 4, {"version": "../1"}, InvalidInput, "header.version"),
        (
            batch(0, 4),
            4,
            {"version": "models/other/versions/1"},
            InvalidInput,
            "header.version",
        ),
        (
            batch(0, 4),
            4,
            {"version": "models/digits/versions/9"},
            NotFound,
            "header.version",
        ),
    ],
    # An upload's bytes would make a name too long for the environment of a child process.
    ids=itertools.count(),
)
async def test_a_bad_upload_names_what_is_wrong_and_leaves_nothing(
    tmp_path: Path,
    evaluations: Evaluations,
    data: bytes,
    rows: int,
    header: dict[str, Any],
    kind: type[KeeptuneError],
    field: str,
) -> None:
    async with running(tmp_path, evaluations, max_upload_bytes=2 << 20) as plane:
        await plane.model()
        await plane.version(evaluations.good[0])
        with pytest.raises(kind) as caught:
            await upload(plane, data, rows, "u1", **header)
        assert caught.value.field == field
        with pytest.raises(FailedPrecondition, match="0 of 1"):
            await export(plane)


async def test_the_oldest_are_forgotten_beyond_the_cap(
    tmp_path: Path, evaluations: Evaluations
) -> None:
    size = len(batch(10, 10))
    async with running(tmp_path, evaluations, max_captures_bytes=3 * size) as plane:
        await plane.model()
        await plane.version(evaluations.good[0])
        for number in range(5):
            await upload(plane, batch(10 * number, 10), 10, f"u{number}")
        found = await export(plane, recent_fraction=0.0)
        kept = read_dataset(found.training, plane.artifacts).x[:, 0].tolist()
        assert kept == list(range(20, 50))
        # The files of the others are gone too; an export that had read of them does without.
        there = [
            await plane.artifacts.exists(hashlib.sha256(batch(10 * number, 10)).hexdigest())
            for number in range(5)
        ]
        assert there == [False, False, True, True, True]
        await plane.artifacts.delete(hashlib.sha256(batch(20, 10)).hexdigest())
        assert (await export(plane, recent_fraction=0.0)).training_rows == 20


async def test_a_host_uploads_for_itself_alone(capturing: ControlPlane) -> None:
    plane = capturing
    credentials, _ = await enroll(plane, "a")
    async with open_channel(plane.address, credentials=credentials) as channel:
        link: Any = deployment_pb2_grpc.AgentLinkStub(channel)
        assert await upload(plane, batch(0, 4), 4, "u1", host="", link=link) == 4
        with pytest.raises(PermissionDenied):
            await upload(plane, batch(0, 4), 4, "u2", host="hosts/b", link=link)
    looking = ClientCredentials("looking")
    async with open_channel(plane.address, credentials=looking) as channel:
        link = deployment_pb2_grpc.AgentLinkStub(channel)
        with pytest.raises(PermissionDenied):
            await upload(plane, batch(0, 4), 4, "u3", link=link)


async def test_the_first_part_is_the_header(capturing: ControlPlane) -> None:
    for messages in (
        [pb.UploadCaptureRequest(data=b"x")],
        [
            pb.UploadCaptureRequest(
                header=pb.CaptureHeader(
                    request_id="u",
                    host="hosts/a",
                    model="models/digits",
                    version="models/digits/versions/1",
                    sha256="0" * 64,
                )
            )
        ]
        * 2,
    ):
        with pytest.raises(InvalidInput) as caught:
            await calling(capturing.link.UploadCapture(iter(messages)))
        assert caught.value.field == "header"


async def test_captures_are_artifacts_with_their_checksum(capturing: ControlPlane) -> None:
    await upload(capturing, batch(0, 4), 4, "u1")
    found = await export(capturing)
    artifact = from_proto(found.training.artifact)
    content = await capturing.artifacts.get_bytes(artifact)
    assert hashlib.sha256(content).hexdigest() == artifact.sha256
    assert len(content) == artifact.size_bytes


async def test_a_full_disk_keeps_nothing_and_says_so(
    tmp_path: Path, evaluations: Evaluations, small_disk: Path
) -> None:
    store = ArtifactStore(small_disk.as_uri())
    onnx = await evaluations.artifacts.get_bytes(evaluations.good[0].onnx)
    blob = await store.put_bytes(onnx, media_type="application/onnx")
    async with running(tmp_path, evaluations, artifacts=store) as plane:
        await plane.model()
        version = pb.ModelVersion(onnx=to_proto(blob))
        await calling(
            plane.stub.CreateModelVersion(
                pb.CreateModelVersionRequest(parent="models/digits", version=version)
            )
        )
        wide = batch(0, 4, request_id=np.array(["r" * 200_000 + str(n) for n in range(4)]))
        with pytest.raises(ResourceExhausted) as caught:
            await upload(plane, wide, 4, "u1")
        assert caught.value.reason == "DISK_FULL"
        with pytest.raises(FailedPrecondition, match="0 of 1"):
            await export(plane)
        (small_disk / "ballast").unlink()
        assert await upload(plane, wide, 4, "u1") == 4
