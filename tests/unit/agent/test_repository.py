from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from keeptune.agent.package import MAX_VERSION, Package, PackageFile, staging_name
from keeptune.agent.repository import ModelRepository
from keeptune.runtime.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
)
from tests.fixtures.onnx_models import make_package, scale_config, scale_model


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path / "packages", "digits", 1, scale_model(2.0))


def _content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_version_is_written_whole_with_what_it_came_from(
    repository: ModelRepository, package: Package
) -> None:
    installed = repository.add_version("digits", package)
    repository.serve("digits", (1,))
    state = repository.state("digits")
    assert state.versions == {1: installed}
    assert state.serving == (1,)
    names = set(_content(repository.root / "digits"))
    assert names == {"config.pbtxt", "1/model.onnx", "1/package.json", "1/__pycache__"}
    assert repository.add_version("digits", package) == installed


def test_python_package_gets_our_shim(repository: ModelRepository, tmp_path: Path) -> None:
    package = make_package(tmp_path, "digits", 1, scale_model(2.0), platform="python")
    repository.add_version("digits", package)
    assert "TritonPythonModel" in (repository.root / "digits/1/model.py").read_text()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "../etc"}, "model"),
        ({"model": "a/b"}, "model"),
        ({"model": "."}, "model"),
        ({"model": ""}, "model"),
        ({"model": "Digits"}, "model"),
        ({"model": "x" * 65}, "model"),
        ({"model": "digits\n"}, "model"),
        ({"model": "digits--challenger"}, "model"),
        ({"version": 0}, "version"),
        ({"version": -1}, "version"),
        ({"version": MAX_VERSION + 1}, "version"),
        ({"platform": "tensorflow"}, "platform"),
        ({"files": {}}, "files"),
        ({"config": scale_config(platform="python")}, "config"),
        ({"config": 'platform: "onnxruntime_onnx" default_model_filename: "../../x"'}, "config"),
        ({"config": 'platform: "onnxruntime_onnx" input [ {'}, "config"),
    ],
)
def test_unsound_package_is_refused_and_nothing_is_written(
    repository: ModelRepository, package: Package, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        repository.add_version("digits", dataclasses.replace(package, **change))
    assert caught.value.field == field
    assert not repository.root.exists()


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/passwd", "a/b.txt", "model.py", "x.so", "..", "", ".hidden.txt",
     "package.json", "config.pbtxt", "labels.txt\n"],
)  # fmt: skip
def test_path_tricks_and_code_among_the_files_are_refused(
    repository: ModelRepository, package: Package, name: str
) -> None:
    files = {**package.files, name: package.files["model.onnx"]}
    with pytest.raises(InvalidInput) as caught:
        repository.add_version("digits", dataclasses.replace(package, files=files))
    assert caught.value.reason == "BAD_FILE_NAME"
    assert not repository.root.exists()


def test_wrong_checksum_changes_nothing(repository: ModelRepository, package: Package) -> None:
    repository.add_version("digits", package)
    repository.serve("digits", (1,))
    before = _content(repository.root)
    file = PackageFile(package.files["model.onnx"].path, "0" * 64)
    other = dataclasses.replace(package, version=2, files={"model.onnx": file})
    with pytest.raises(DataLoss) as caught:
        repository.add_version("digits", other)
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    with pytest.raises(DataLoss):
        repository.add_version("fresh", other)
    assert _content(repository.root) == before
    assert repository.names() == ("digits",)


def test_links_and_special_files_are_refused(
    repository: ModelRepository, package: Package, tmp_path: Path
) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to(package.files["model.onnx"].path)
    sha256 = package.files["model.onnx"].sha256
    os.mkfifo(tmp_path / "pipe")
    for path in (link, tmp_path, tmp_path / "pipe", tmp_path / "absent"):
        bad = dataclasses.replace(package, files={"model.onnx": PackageFile(path, sha256)})
        with pytest.raises(InvalidInput) as caught:
            repository.add_version("digits", bad)
        assert caught.value.reason == "BAD_FILE"
    assert repository.names() == ()


def test_onnx_with_external_data_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    model = onnx.load_from_string(scale_model(2.0))
    tensor = model.graph.initializer[0]
    tensor.raw_data = b"\0\0\0\0"
    external_data_helper.set_external_data(tensor, "../../../etc/passwd")
    with pytest.raises(InvalidInput) as caught:
        repository.add_version("m", make_package(tmp_path, "m", 1, model.SerializeToString()))
    assert caught.value.reason == "EXTERNAL_DATA"


def test_external_data_inside_a_nested_graph_is_found(
    repository: ModelRepository, tmp_path: Path
) -> None:
    value = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1])
    value.data_location = TensorProto.EXTERNAL
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["o"], value=value)], "branch", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = onnx.load_from_string(scale_model(2.0))
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    with pytest.raises(InvalidInput) as caught:
        repository.add_version("m", make_package(tmp_path, "m", 1, model.SerializeToString()))
    assert caught.value.reason == "EXTERNAL_DATA"


def test_file_cut_anywhere_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    content = scale_model(2.0)
    graph_end = len(content) - len(b"B\x04\n\x00\x10\x14")  # the opset, without which it is whole
    for length in range(1, graph_end):
        with pytest.raises(InvalidInput):
            repository.add_version("m", make_package(tmp_path, "m", 1, content[:length]))
    for junk in (b"", b"not a model at all", b"\xff" * 100, b"\x00" * 100):
        with pytest.raises(InvalidInput):
            repository.add_version("m", make_package(tmp_path, "m", 1, junk))
    assert repository.names() == ()


def test_version_never_changes(
    repository: ModelRepository, package: Package, tmp_path: Path
) -> None:
    repository.add_version("digits", package)
    before = _content(repository.root)
    other = make_package(tmp_path / "other", "digits", 1, scale_model(3.0))
    with pytest.raises(AlreadyExists):
        repository.add_version("digits", other)
    assert _content(repository.root) == before


def test_serving_what_is_not_there_or_does_not_fit_changes_nothing(
    repository: ModelRepository, package: Package, tmp_path: Path
) -> None:
    repository.add_version("digits", package)
    repository.serve("digits", (1,))
    wider = make_package(
        tmp_path, "digits", 2, scale_model(2.0, features=5), config=scale_config(features=5)
    )
    repository.add_version("digits", wider)
    before = _content(repository.root)
    with pytest.raises(NotFound):
        repository.serve("digits", (1, 7))
    with pytest.raises(FailedPrecondition) as caught:
        repository.serve("digits", (1, 2))
    assert caught.value.reason == "CONFIGS_DIFFER"
    assert _content(repository.root) == before
    repository.serve("digits", (2,))
    assert "dims: [5]" in (repository.root / "digits/config.pbtxt").read_text()


def test_served_version_is_not_removed_and_others_are(
    repository: ModelRepository, package: Package
) -> None:
    repository.add_version("digits", package)
    repository.add_version("digits", dataclasses.replace(package, version=2))
    repository.serve("digits", (2,))
    with pytest.raises(FailedPrecondition):
        repository.remove_version("digits", 2)
    for _ in range(2):
        repository.remove_version("digits", 1)
    assert list(repository.state("digits").versions) == [2]
    for _ in range(2):
        repository.remove_model("digits")
    assert repository.names() == ()


def test_tidy_removes_what_kills_leave_and_nothing_else(
    repository: ModelRepository, package: Package
) -> None:
    repository.add_version("digits", package)
    repository.serve("digits", (1,))
    before = _content(repository.root)
    (repository.root / "digits/.tmp2").mkdir()
    (repository.root / "digits/.tmp2/model.onnx").write_bytes(b"half")
    (repository.root / "digits/.tmp-config").write_text("half")
    (repository.root / ".tmp-gone-old").mkdir()
    (repository.root / "empty").mkdir()
    (repository.root / "foreign").mkdir()
    (repository.root / "foreign/notes.md").write_text("someone's own")
    assert len(repository.tidy()) == 4
    assert _content(repository.root) == {**before, "foreign/notes.md": b"someone's own"}
    assert repository.tidy() == ()


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_full_disk_leaves_nothing_and_says_so(
    repository: ModelRepository, package: Package, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    repository.add_version("digits", package)
    repository.serve("digits", (1,))
    before = _content(repository.root)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(ResourceExhausted) as caught:
        repository.add_version("digits", dataclasses.replace(package, version=2))
    assert caught.value.reason == "DISK_FULL"
    monkeypatch.undo()
    assert _content(repository.root) == before


def test_damaged_record_is_named(repository: ModelRepository, package: Package) -> None:
    repository.add_version("digits", package)
    (repository.root / "digits/1/package.json").write_text("{")
    with pytest.raises(DataLoss, match=r"package\.json"):
        repository.state("digits")


def test_one_agent_a_repository(repository: ModelRepository) -> None:
    repository.acquire()
    code = (
        "import sys; from pathlib import Path; from keeptune.agent.repository import *\n"
        "ModelRepository(Path(sys.argv[1])).acquire()"
    )
    command = [sys.executable, "-c", code, str(repository.root)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "another agent works on" in second.stderr
    repository.release()
    third = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert third.returncode == 0, third.stderr


def test_staging_name_cannot_be_a_models() -> None:
    assert staging_name("digits") == "digits--challenger"
