"""The stubs beside the protos are those that the protos give."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

PROTOS = Path(__file__).parents[3] / "protos"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROTOS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path, generator: ModuleType) -> Path:
    """A small tree of protos to change: one of ours and the vendored rules."""
    for source in ("buf/validate/validate.proto", "keeptune/v1/types.proto"):
        target = tmp_path / "protos" / source
        target.parent.mkdir(parents=True)
        shutil.copy(PROTOS / source, target)
    return tmp_path / "protos"


def test_the_stubs_in_use_are_up_to_date(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)
    fresh = generator.stubs(tmp_path)
    assert fresh == generator.stubs(PROTOS)
    stale = [p for p in fresh if (tmp_path / p).read_bytes() != (PROTOS / p).read_bytes()]
    assert not stale, "run `make protos`"


def test_nothing_is_generated_twice(generator: ModuleType, copy: Path) -> None:
    assert generator.refresh(copy)
    assert not generator.refresh(copy)


def test_a_changed_proto_is_noticed(generator: ModuleType, copy: Path) -> None:
    generator.refresh(copy)
    with (copy / "keeptune/v1/types.proto").open("a") as proto:
        proto.write("message Planted { int32 field = 1; }\n")
    assert generator.refresh(copy)
    assert "class Planted" in (copy / "keeptune/v1/types_pb2.pyi").read_text()


def test_a_lost_stub_is_noticed(generator: ModuleType, copy: Path) -> None:
    generator.refresh(copy)
    (copy / "keeptune/v1/types_pb2.py").unlink()
    assert generator.refresh(copy)
    assert (copy / "keeptune/v1/types_pb2.py").is_file()


def test_the_stubs_of_a_removed_proto_go(generator: ModuleType, copy: Path) -> None:
    extra = copy / "keeptune/v1/extra.proto"
    extra.write_text('syntax = "proto3";\npackage keeptune.v1;\nmessage Extra {}\n')
    generator.refresh(copy)
    assert (copy / "keeptune/v1/extra_pb2.py").is_file()
    extra.unlink()
    generator.refresh(copy)
    assert not (copy / "keeptune/v1/extra_pb2.py").exists()


def test_a_broken_proto_leaves_the_old_stubs(generator: ModuleType, copy: Path) -> None:
    generator.refresh(copy)
    stub = copy / "keeptune/v1/types_pb2.py"
    before = stub.read_bytes()
    with (copy / "keeptune/v1/types.proto").open("a") as proto:
        proto.write("message {\n")
    with pytest.raises(generator.GenerationError):
        generator.refresh(copy)
    assert stub.read_bytes() == before
    assert not list(copy.glob(".stubs-*"))
