import hashlib
import os
import sys
from pathlib import Path

import pytest

from keeptune.runtime.artifacts import Artifact, ArtifactStore, from_proto, to_proto
from keeptune.runtime.errors import (
    DataLoss,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from keeptune.v1 import types_pb2

DATA = bytes(range(256)) * 20_000  # about 5 MB
SHA = hashlib.sha256(DATA).hexdigest()
TYPE = "application/octet-stream"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "file":
        return ArtifactStore((tmp_path / "store").as_uri())
    return ArtifactStore(f"memory://{tmp_path}")


async def test_what_is_put_is_got(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = await store.put_bytes(DATA, media_type=TYPE, filename="model.onnx")
    assert artifact == Artifact(SHA, len(DATA), TYPE, "model.onnx")
    assert await store.exists(SHA)
    assert await store.size(SHA) == len(DATA)
    assert await store.get_bytes(artifact) == DATA
    assert await store.get_bytes(SHA) == DATA
    pieces = [piece async for piece in store.open_stream(artifact, 1 << 20)]
    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(pieces) == DATA
    fetched = await store.fetch(artifact, tmp_path / "new" / "folder" / "m.onnx")
    assert fetched.read_bytes() == DATA
    assert os.listdir(fetched.parent) == ["m.onnx"]


async def test_what_is_deleted_is_gone_and_may_be_put_again(store: ArtifactStore) -> None:
    await store.put_bytes(DATA, media_type=TYPE)
    for _ in range(2):
        await store.delete(SHA)
        assert not await store.exists(SHA)
    await store.put_bytes(DATA, media_type=TYPE)
    assert await store.get_bytes(SHA) == DATA


async def test_a_file_is_put_as_its_content(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(DATA)
    by_name = await store.put_file(path, media_type=TYPE)
    assert by_name == Artifact(SHA, len(DATA), TYPE, "weights.npz")
    again = await store.put_bytes(DATA, media_type="other/type", filename="")
    assert again.sha256 == by_name.sha256
    assert await store.get_bytes(by_name) == DATA


async def test_nothing_at_all_is_a_blob_too(store: ArtifactStore) -> None:
    artifact = await store.put_bytes(b"", media_type=TYPE)
    assert await store.get_bytes(artifact) == b""
    assert [piece async for piece in store.open_stream(artifact)] == []


async def test_unknown_blobs_are_not_found(store: ArtifactStore, tmp_path: Path) -> None:
    unknown = "0" * 64
    assert not await store.exists(unknown)
    for attempt in (
        store.get_bytes(unknown),
        store.fetch(unknown, tmp_path / "x"),
        store.size(unknown),
        anext(store.open_stream(unknown)),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("sha", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/x"])
async def test_what_is_no_checksum_is_refused(store: ArtifactStore, sha: str) -> None:
    for attempt in (store.exists(sha), store.get_bytes(sha)):
        with pytest.raises(InvalidInput):
            await attempt


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a\nb", "x" * 129, "-rf"])
async def test_path_tricks_in_names_are_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.put_bytes(b"x", media_type=TYPE, filename=name)
    assert caught.value.field == "filename"
    with pytest.raises(InvalidInput):
        from_proto(types_pb2.Artifact(sha256=SHA, filename=name))


async def test_damage_is_noticed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())
    artifact = await store.put_bytes(DATA, media_type=TYPE)
    (blob,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    damaged = bytearray(DATA)
    damaged[1000] ^= 1
    blob.write_bytes(damaged)
    target = tmp_path / "target"
    target.write_bytes(b"what was there")
    for attempt in (store.get_bytes(artifact), store.fetch(artifact, target)):
        with pytest.raises(DataLoss) as caught:
            await attempt
        assert caught.value.reason == "CHECKSUM_MISMATCH"

    async def read_all() -> None:
        async for _ in store.open_stream(artifact):
            pass

    with pytest.raises(DataLoss):
        await read_all()
    assert target.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "target"]


async def test_a_truncated_blob_is_put_again(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())
    artifact = await store.put_bytes(DATA, media_type=TYPE)
    (blob,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    blob.write_bytes(DATA[:100])
    await store.put_bytes(DATA, media_type=TYPE)
    assert await store.get_bytes(artifact) == DATA


async def test_a_full_disk_leaves_nothing_behind(small_disk: Path) -> None:
    store = ArtifactStore((small_disk / "store").as_uri())
    small = await store.put_bytes(b"small", media_type=TYPE)
    with pytest.raises(ResourceExhausted) as caught:
        await store.put_bytes(DATA, media_type=TYPE)
    assert caught.value.reason == "DISK_FULL"
    with pytest.raises(ResourceExhausted):
        await ArtifactStore("memory://full").fetch(
            await ArtifactStore("memory://full").put_bytes(DATA, media_type=TYPE),
            small_disk / "fetched",
        )
    files = sorted(path.name for path in small_disk.rglob("*") if path.is_file())
    assert files == sorted(["ballast", small.sha256])


async def test_what_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = ArtifactStore((tmp_path / "file").as_uri())
    with pytest.raises(Unavailable):
        await store.put_bytes(b"x", media_type=TYPE)


def test_a_store_whose_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InvalidInput, match="s3://bucket/models") as caught:
        ArtifactStore("s3://bucket/models")
    assert (caught.value.field, caught.value.fix) == ("artifacts", 'pip install "keeptune[s3]"')


@pytest.mark.parametrize("url", ["nonsense://x", "s4://bucket"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ArtifactStore(url)
    assert caught.value.field == "artifacts"


def test_protos_there_and_back() -> None:
    artifact = Artifact(SHA, 5, TYPE, "model.onnx")
    assert from_proto(to_proto(artifact)) == artifact
    with pytest.raises(InvalidInput):
        from_proto(types_pb2.Artifact(sha256="short"))
