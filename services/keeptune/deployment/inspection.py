"""Asks the inspector about an ONNX file, and turns its answer into a graph or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.deployment.model import DataType, Tensor
from keeptune.deployment.signature import Graph
from keeptune.runtime.errors import InvalidInput, Unavailable

_SECONDS = 180.0


@dataclass(frozen=True)
class Limits:
    """What every serving host's onnxruntime is trusted to load."""

    max_ir: int
    max_opset: int


async def inspect(path: Path, limits: Limits, *, field: str) -> Graph:
    """What the ONNX file has.

    Raises InvalidInput naming `field` for a file that is truncated, hostile, or too new.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a file in the working folder must not pass for a module
        "-m",
        "keeptune.deployment.inspector",
        str(path),
        str(limits.max_ir),
        str(limits.max_opset),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        raise _unreadable(field, f"could not be read within {_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    code = process.returncode or 0
    if code < 0:
        raise _unreadable(field, f"crashes the reader (signal {-code})")
    if code:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {code}"]
        if "MemoryError" in last[0]:
            raise _unreadable(field, "needs more memory than any model should")
        raise Unavailable(f"the inspector of ONNX files failed: {last[0]}", retry_after=5.0)
    answer = json.loads(out)
    if "problem" in answer:
        raise InvalidInput(
            field=field, problem=answer["problem"], fix=answer["fix"], reason="UNSOUND_MODEL"
        )
    return Graph(
        inputs=tuple(_tensor(each) for each in answer["inputs"]),
        outputs=tuple(_tensor(each) for each in answer["outputs"]),
        metadata=answer["metadata"],
    )


def _tensor(values: dict[str, Any]) -> Tensor:
    return Tensor(values["name"], DataType(values["data_type"]), tuple(values["shape"]))


def _unreadable(field: str, problem: str) -> InvalidInput:
    return InvalidInput(
        field=field,
        problem=problem,
        fix="export the model anew and upload that file",
        reason="UNSOUND_MODEL",
    )
