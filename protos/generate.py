"""Generates the Python stubs beside the protos.

Run by `make protos`, by the build hook of the wheel, and by hand. Nothing happens unless an input
(a proto, the generator's version, this file) has changed since the last run or an output is gone;
`--force` overrules that. Outputs are replaced one by one only after all of them were made, so an
error in a proto leaves the old stubs whole, and a lock lets several callers run at the same time.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent
STAMP = ".stubs.sha256"
LOCK = ".stubs.lock"
GENERATORS = ("grpcio-tools", "mypy-protobuf", "protobuf")
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class GenerationError(Exception):
    """protoc refused the protos; it has printed why to stderr."""


def sources(root: Path = ROOT) -> list[Path]:
    """All protos below `root`, sorted, relative to it."""
    return sorted(path.relative_to(root) for path in root.rglob("*.proto"))


def stubs(root: Path = ROOT) -> list[Path]:
    """All generated files below `root`, sorted, relative to it."""
    return sorted(path.relative_to(root) for glob in PATTERNS for path in root.rglob(glob))


def generate(output: Path, root: Path = ROOT) -> None:
    """Writes the stubs of every proto below `root` into `output`.

    Raises GenerationError when protoc refuses a proto.
    """
    import grpc_tools
    from grpc_tools import protoc

    files = sources(root)
    # A service-less proto needs no gRPC stub, and an empty one would import grpc for nothing.
    with_services = [path for path in files if _has_service(root / path)]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    include = [f"--proto_path={root}", f"--proto_path={well_known}"]
    with tempfile.TemporaryDirectory() as folder:
        message_stubs = _plugin(Path(folder), "protoc-gen-mypy", "main")
        service_stubs = _plugin(Path(folder), "protoc-gen-mypy_grpc", "grpc")
        runs = [
            (files, ["--python_out", "--mypy_out"], f"--plugin=protoc-gen-mypy={message_stubs}"),
            (
                with_services,
                ["--grpc_python_out", "--mypy_grpc_out"],
                f"--plugin=protoc-gen-mypy_grpc={service_stubs}",
            ),
        ]
        for protos, outs, plugin in runs:
            if not protos:
                continue
            flags = [f"{out}={'quiet:' if 'mypy' in out else ''}{output}" for out in outs]
            names = [path.as_posix() for path in protos]
            if protoc.main(["protoc", *include, plugin, *flags, *names]) != 0:
                raise GenerationError(f"protoc refused the protos below {root}")


def refresh(root: Path = ROOT, *, force: bool = False) -> bool:
    """Brings the stubs beside the protos up to date; True when something was generated."""
    with _locked(root / LOCK):
        wanted = _digest(root)
        stamp = root / STAMP
        if not force and stamp.is_file() and _is_current(root, stamp, wanted):
            return False
        with tempfile.TemporaryDirectory(dir=root, prefix=".stubs-") as folder:
            output = Path(folder)
            generate(output, root)
            made = stubs(output)
            for path in made:
                os.replace(output / path, root / path)
        for stale in set(stubs(root)) - set(made):
            (root / stale).unlink()
        written = "\n".join([wanted, *(path.as_posix() for path in made)])
        partial = stamp.with_suffix(".partial")
        partial.write_text(written + "\n")
        os.replace(partial, stamp)
        return True


def _is_current(root: Path, stamp: Path, wanted: str) -> bool:
    digest, *made = stamp.read_text().splitlines()
    return digest == wanted and all((root / path).is_file() for path in made)


def _digest(root: Path) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in GENERATORS:
        digest.update(f"{name}=={metadata.version(name)}\n".encode())
    for path in sources(root):
        digest.update(f"{path.as_posix()}\0".encode() + (root / path).read_bytes() + b"\0")
    return digest.hexdigest()


def _has_service(proto: Path) -> bool:
    return any(line.startswith("service ") for line in proto.read_text().splitlines())


def _plugin(folder: Path, name: str, function: str) -> Path:
    # protoc looks plugins up on PATH, which holds the scripts of neither an environment that is not
    # activated nor pip's isolated build environment: start the plugin with this interpreter.
    code = f"import sys; from mypy_protobuf.main import {function}; sys.exit({function}())"
    script = folder / name
    script.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n")
    script.chmod(0o755)
    return script


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--force", action="store_true", help="generate even if nothing has changed")
    parser.add_argument("--output", type=Path, help="write here instead of beside the protos")
    arguments = parser.parse_args()
    try:
        if arguments.output:
            arguments.output.mkdir(parents=True, exist_ok=True)
            generate(arguments.output)
        elif refresh(force=arguments.force):
            print(f"protos: generated {len(stubs())} stubs", file=sys.stderr)
    except GenerationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
