"""Serves `<version>/model.onnx` in Triton's python backend, and samples its requests.

It runs in a stub process of Triton with numpy 1.26 and onnxruntime only, so it is one file without
imports from keeptune. It stands either as `backends/onnxruntime/model.py`, which lets repositories
written for the official onnxruntime backend run unchanged, or beside the model as `1/model.py`.

Sampling
--------
A folder shared with the agent, named by the model's config parameter `keeptune_sampling_dir` or by
the environment variable KEEPTUNE_SAMPLING_DIR, holds two things, both made by the agent:

`rates.json`    {"expires_ns": E, "rates": {"<model>": N}}
    One in N requests of a model is sampled. E is on CLOCK_MONOTONIC: past it, or when it lies more
    than MAX_LEASE_NS ahead (a file from before a reboot), nothing is sampled, so that sampling
    ends by itself when the agent is gone. The file is replaced whole; it is looked at no more than
    five times a second, and only while requests come.
`samples.sock`  a unix datagram socket, to which each sample is one datagram, little endian:
    4s magic "KTS1" | u8 flags | u8 inputs | u8 outputs | u8 zero | u64 wall time, ns
    u64 instance | u64 samples taken | u64 samples dropped (both of this instance, so far)
    u64 version | u16 length, model name | u16 length, request id
    then per tensor, inputs first:
    u16 length, name | u8 length, Triton data type | u8 rank | i64 dimensions | u32 length, bytes
    BYTES tensors hold u32 length + bytes per element; every other type its C-ordered memory.
    flags: 1 = too large, tensors left out; 2 = the request failed, outputs left out.

Sending never blocks: with no agent, or a slow one, the sample is dropped and counted.
"""

# asyncio and inspect are used by the backend's wrapper: imported late they would cost the
# first request 50-200 ms.
import asyncio  # noqa: F401
import inspect  # noqa: F401
import json
import os
import random
import socket
import struct
import time
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

MAX_DATAGRAM = 160 * 1024
MAX_LEASE_NS = 600 * 10**9
CHECK_RATES_NS = 200 * 10**6

TOO_LARGE = 1
FAILED = 2

_HEAD = struct.Struct("<4sBBBxQQQQQ")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")

Tensors: TypeAlias = dict[str, np.ndarray[Any, Any]]
Result: TypeAlias = "Tensors | Exception"

# ONNX type to Triton's name of it; numpy has no bfloat16, so that one is refused.
_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._name = args["model_name"]
        self._config = json.loads(args["model_config"])
        self._batches = self._config.get("max_batch_size", 0) > 0
        path = _model_file(self._config, args)
        if not os.path.isfile(path):
            raise pb_utils.TritonModelException(f"{path} is missing")
        try:
            self._session = ort.InferenceSession(
                path,
                sess_options=_session_options(self._config),
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path} does not load: {error}") from error
        self._inputs = _named_types(self._session.get_inputs(), self._config["input"], "input")
        self._outputs = _named_types(self._session.get_outputs(), self._config["output"], "output")
        self._warm_up()
        self._sampler = Sampler(
            _parameter(self._config, "keeptune_sampling_dir")
            or os.environ.get("KEEPTUNE_SAMPLING_DIR", ""),
            self._name,
            int(args["model_version"]),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        decoded = [self._decode(request) for request in requests]
        results = self._run_batch(decoded)
        failures = [result for result in results if isinstance(result, Exception)]
        responses = []
        for request, inputs, result in zip(requests, decoded, results, strict=True):
            if self._sampler.due():
                self._sampler.send(
                    request.request_id(), self._inputs, inputs, self._outputs, result
                )
            responses.append(self._respond(result))
        if len(failures) == len(requests):
            # Triton counts a response that carries an error as a success, a raise as a failure.
            raise failures[0]
        return responses

    def finalize(self) -> None:
        self._sampler.close()

    def _decode(self, request: Any) -> Tensors:
        inputs = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                inputs[name] = tensor.as_numpy()
        return inputs

    def _run_batch(self, decoded: list[Tensors]) -> list[Result]:
        """One result a request, in order: {output: array}, or the exception it failed with."""
        if not self._batches or len(decoded) == 1:
            return [self._run(inputs) for inputs in decoded]
        rows = [len(next(iter(inputs.values()))) for inputs in decoded]
        try:
            joined = {
                name: np.concatenate([inputs[name] for inputs in decoded]) for name in decoded[0]
            }
            outputs = self._session.run(list(self._outputs), self._feed(joined))
            total = sum(rows)
            if any(len(output) != total for output in outputs):
                raise ValueError("an output does not have one row an input row")
        except Exception:  # noqa: BLE001
            # One bad request, or shapes that do not join, must not fail its neighbours.
            return [self._run(inputs) for inputs in decoded]
        ends = np.cumsum(rows)[:-1]
        split = [np.split(output, ends) for output in outputs]
        return [dict(zip(self._outputs, parts, strict=True)) for parts in zip(*split, strict=True)]

    def _run(self, inputs: Tensors) -> Result:
        names = list(self._outputs)
        try:
            return dict(zip(names, self._session.run(names, self._feed(inputs)), strict=True))
        except Exception as error:  # noqa: BLE001
            # onnxruntime's errors have no common base; each becomes the answer of its request.
            return error

    def _feed(self, inputs: Tensors) -> Tensors:
        return {
            name: _to_text(array) if self._inputs[name] == "BYTES" else array
            for name, array in inputs.items()
        }

    def _respond(self, result: Result) -> Any:
        if isinstance(result, Exception):
            code = (
                pb_utils.TritonError.INVALID_ARG
                if type(result).__name__ == "InvalidArgument"
                else pb_utils.TritonError.INTERNAL
            )
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(result), code))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(
                    name,
                    _to_bytes(array)
                    if self._outputs[name] == "BYTES"
                    else np.ascontiguousarray(array),
                )
                for name, array in result.items()
            ]
        )

    def _warm_up(self) -> None:
        """Runs the model once on zeros: a model that cannot run its declared shape must not load.

        With sizes left open a size of 1 may be one that the model rightly refuses, so there a
        failure is only logged.
        """
        inputs: Tensors = {}
        open_sizes = False
        for declared in self._config["input"]:
            dims = [int(dim) for dim in declared["dims"]]
            open_sizes = open_sizes or any(dim < 0 for dim in dims)
            shape = ([1] if self._batches else []) + [max(dim, 1) for dim in dims]
            if self._inputs[declared["name"]] == "BYTES":
                inputs[declared["name"]] = np.full(shape, b"", dtype=object)
            else:
                numpy_type = pb_utils.triton_string_to_numpy(declared["data_type"])
                inputs[declared["name"]] = np.zeros(shape, dtype=numpy_type)
        outcome = self._run(inputs)
        if isinstance(outcome, Exception):
            if not open_sizes:
                raise pb_utils.TritonModelException(f"the model fails on zeros: {outcome}")
            pb_utils.Logger.log_warn(f"{self._name}: warm-up on zeros failed: {outcome}")


class Sampler:
    """Sends one in N requests to the agent; see the head of this file."""

    def __init__(self, folder: str, model: str, version: int) -> None:
        self._rates = os.path.join(folder, "rates.json") if folder else ""
        self._socket_path = os.path.join(folder, "samples.sock")
        self._model = model
        self._version = version
        self._socket: socket.socket | None = None
        if folder:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_DATAGRAM)
        self._instance = random.SystemRandom().getrandbits(63)
        self._random = random.Random(self._instance)
        self._taken = 0
        self._dropped = 0
        self._check_at = 0
        self._seen_file: tuple[int, int] | None = None
        self._expires_ns = 0
        self._every = 0
        self._position = 0
        self._chosen = 0

    def due(self) -> bool:
        """Whether this request is to be sampled: one, chosen at random, of each N in a row."""
        if self._socket is None:
            return False
        now = time.monotonic_ns()
        if now >= self._check_at:
            self._check_at = now + CHECK_RATES_NS
            self._read_rates()
        if self._every <= 0 or not now < self._expires_ns <= now + MAX_LEASE_NS:
            return False
        if self._position == 0:
            # A fixed place in each N would see only some of a client that repeats a pattern.
            self._chosen = self._random.randrange(self._every)
        due = self._position == self._chosen
        self._position = (self._position + 1) % self._every
        return due

    def send(
        self,
        request_id: str,
        input_types: dict[str, str],
        inputs: Tensors,
        output_types: dict[str, str],
        result: Result,
    ) -> None:
        assert self._socket is not None
        self._taken += 1
        flags, outputs = (FAILED, {}) if isinstance(result, Exception) else (0, result)
        body: list[bytes] = []
        counts = (len(inputs), len(outputs))
        # Sizes are known before the copying, except those of strings.
        if sum(array.nbytes for array in (*inputs.values(), *outputs.values())) <= MAX_DATAGRAM:
            _pack_tensors(body, input_types, inputs)
            _pack_tensors(body, output_types, outputs)
        if not body or sum(len(part) for part in body) > MAX_DATAGRAM:
            flags, counts, body = flags | TOO_LARGE, (0, 0), []
        head = _HEAD.pack(
            b"KTS1",
            flags,
            *counts,
            time.time_ns(),
            self._instance,
            self._taken,
            self._dropped,
            self._version,
        )
        try:
            datagram = [head, _text(self._model), _text(request_id[:1024]), *body]
            self._socket.sendmsg(datagram, [], 0, self._socket_path)
        except OSError:
            # The agent is away (no such file, refused) or slow (would block): serving goes on.
            self._dropped += 1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _read_rates(self) -> None:
        try:
            found = os.stat(self._rates)
            identity: tuple[int, int] | None = (found.st_ino, found.st_mtime_ns)
            if identity == self._seen_file:
                return
            with open(self._rates, "rb") as file:
                content = json.load(file)
            self._expires_ns = int(content["expires_ns"])
            every = int(content["rates"].get(self._model, 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            identity, every = None, 0
        self._seen_file = identity
        if every != self._every:
            self._every, self._position = every, 0


def _model_file(config: dict[str, Any], args: dict[str, str]) -> str:
    name = str(config.get("default_model_filename") or "model.onnx")
    if name == "model.py":
        name = "model.onnx"
    return os.path.join(args["model_repository"], args["model_version"], os.path.basename(name))


def _parameter(config: dict[str, Any], key: str) -> str:
    return config.get("parameters", {}).get(key, {}).get("string_value", "")  # type: ignore[no-any-return]


def _session_options(config: dict[str, Any]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(_parameter(config, "intra_op_thread_count") or 1)
    options.inter_op_num_threads = int(_parameter(config, "inter_op_thread_count") or 1)
    return options


def _named_types(nodes: list[Any], declared: list[dict[str, Any]], side: str) -> dict[str, str]:
    """{name: Triton type} of the declared inputs or outputs, checked against the model's own."""
    types: dict[str, str] = {}
    for node in nodes:
        if node.type not in _TYPES:
            raise pb_utils.TritonModelException(
                f"{side} {node.name!r} has the type {node.type}, which is not served"
            )
        types[node.name] = _TYPES[node.type]
    wanted = {
        entry["name"]: entry["data_type"].replace("TYPE_", "").replace("STRING", "BYTES")
        for entry in declared
    }
    missing = [name for name in wanted if name not in types]
    wrong = [name for name in wanted if name in types and types[name] != wanted[name]]
    unnamed = [name for name in types if name not in wanted] if side == "input" else []
    if missing or wrong or unnamed:
        raise pb_utils.TritonModelException(
            f"the configuration's {side}s {wanted} do not fit the model's {types}"
        )
    return wanted


def _to_text(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    decoded = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    return np.array(decoded, dtype=object).reshape(array.shape)


def _to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return encoded.reshape(array.shape)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _U16.pack(len(raw)) + raw


def _pack_tensors(body: list[bytes], types: dict[str, str], tensors: Tensors) -> None:
    for name, array in tensors.items():
        datatype = types[name]
        if datatype == "BYTES":
            raw = b"".join(_U32.pack(len(item)) + item for item in _to_bytes(array).ravel())
        else:
            raw = array.tobytes()
        body.append(
            _text(name)
            + struct.pack(
                f"<B{len(datatype)}sB{array.ndim}q",
                len(datatype),
                datatype.encode(),
                array.ndim,
                *array.shape,
            )
            + _U32.pack(len(raw))
        )
        body.append(raw)
