"""Calls to Triton; the only module that imports tritonclient.

It uses tritonclient's messages and stub on grpc.aio, not its client class: the agent has grpc
loaded anyway, so this adds 5 MB. gRPC rather than HTTP, because Triton pins each HTTP connection
to a thread and loads models on it, which would stall the requests of others.

Expired deadlines end in cancellations, and some thousands of those crash older servers: deadlines
here lie far above what a healthy server needs, and their end means that it is not healthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from keeptune.agent import tensors
from keeptune.agent.tensors import Array, Signature, TensorSpec
from keeptune.agent.triton_model import (
    IndexEntry,
    InferenceFailed,
    ModelLoadFailed,
    ServerInfo,
    Tally,
    TritonHangs,
    TritonUnavailable,
    VersionStatistics,
)
from keeptune.runtime.errors import (
    DeadlineExceeded,
    KeeptuneError,
    NotFound,
    PermissionDenied,
    Unavailable,
    from_rpc_error,
)

CANARY_ID: Final = "keeptune-canary"
"""The request id of canaries, by which samplers tell them from users' requests."""

_MAX_MESSAGE = 256 * 2**20
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
_TOKEN_HEADER = "triton-grpc-protocol-keeptune"  # noqa: S105 - the name, not the token


class TritonClient:
    """Typed calls to one server.

    All raise TritonUnavailable or TritonHangs when it does not answer. `control_token` is needed
    for calls that load models or set tracing on servers that `run_tritonserver` started.
    """

    def __init__(
        self,
        address: str,
        *,
        control_token: str = "",
        call_seconds: float = 10.0,
        infer_seconds: float = 30.0,
        load_seconds: float = 300.0,
    ) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._token = ((_TOKEN_HEADER, control_token),) if control_token else None
        self._call_seconds = call_seconds
        self._infer_seconds = infer_seconds
        self._load_seconds = load_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def server(self) -> ServerInfo:
        answer = await self._call("ServerMetadata", pb.ServerMetadataRequest())
        return ServerInfo(answer.version, tuple(answer.extensions))

    async def live(self) -> bool:
        """Whether the server says it is alive; False also when it does not answer."""
        try:
            answer = await self._call("ServerLive", pb.ServerLiveRequest())
        except (Unavailable, DeadlineExceeded):
            return False
        return bool(answer.live)

    async def ready(self, model: str, version: int = 0) -> bool:
        """Whether a version (0: the default one) says it is ready; a canary tells more."""
        request = pb.ModelReadyRequest(name=model, version=_version(version))
        try:
            answer = await self._call("ModelReady", request)
        except NotFound:
            return False
        return bool(answer.ready)

    async def index(self) -> tuple[IndexEntry, ...]:
        """Every model folder of the repository with the state of its versions."""
        answer = await self._call("RepositoryIndex", pb.RepositoryIndexRequest(), control=True)
        return tuple(
            IndexEntry(entry.name, int(entry.version or 0), entry.state, entry.reason)
            for entry in answer.models
        )

    async def load(self, model: str) -> None:
        """Makes the server follow what the repository says of `model`; returns when it is done.

        Raises ModelLoadFailed with Triton's reason. What was loaded before then serves on.
        """
        request = pb.RepositoryModelLoadRequest(model_name=model)
        try:
            await self._call("RepositoryModelLoad", request, self._load_seconds, control=True)
        except (PermissionDenied, Unavailable, DeadlineExceeded):
            raise
        except KeeptuneError as error:
            raise ModelLoadFailed(
                f"Triton refused to load {model}: {error.message}", field="model"
            ) from error

    async def unload(self, model: str) -> None:
        """Takes a model out of service; in-flight requests are finished. Idempotent."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        await self._call("RepositoryModelUnload", request, self._load_seconds, control=True)

    async def signature(self, model: str, version: int = 0) -> Signature:
        """What a loaded version takes and gives. Raises NotFound when it is not loaded."""
        request = pb.ModelConfigRequest(name=model, version=_version(version))
        config = (await self._call("ModelConfig", request)).config
        return Signature(
            tuple(_spec(tensor) for tensor in config.input),
            tuple(_spec(tensor) for tensor in config.output),
            config.max_batch_size > 0,
        )

    async def statistics(self, model: str = "") -> tuple[VersionStatistics, ...]:
        """Counters of the loaded versions of one model, or of all."""
        answer = await self._call("ModelStatistics", pb.ModelStatisticsRequest(name=model))
        return tuple(_statistics(entry) for entry in answer.model_stats)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: int = 0,
        request_id: str = "",
        seconds: float | None = None,
    ) -> dict[str, Array]:
        """One inference; arrays with their batch dimension. Raises InferenceFailed, NotFound."""
        request = pb.ModelInferRequest(
            model_name=model, model_version=_version(version), id=request_id
        )
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=tensors.triton_type(array), shape=array.shape)
            request.raw_input_contents.append(tensors.encode(array))
        try:
            answer = await self._call("ModelInfer", request, seconds or self._infer_seconds)
        except (NotFound, Unavailable, DeadlineExceeded):
            raise
        except KeeptuneError as error:
            raise InferenceFailed(
                f"an inference of {model} version {version or 'default'} failed: {error.message}"
            ) from error
        return {
            output.name: tensors.decode(output.datatype, output.shape, raw)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    async def canary(
        self,
        model: str,
        signature: Signature,
        *,
        version: int = 0,
        inputs: Mapping[str, Array] | None = None,
        seconds: float | None = None,
    ) -> dict[str, Array]:
        """One inference of `inputs` (default: zeros), checked against the signature.

        Raises InferenceFailed also when an output is missing, not finite, or of another type or
        shape; NotFound when the version is not loaded.
        """
        outputs = await self.infer(
            model,
            inputs or signature.example(),
            version=version,
            request_id=CANARY_ID,
            seconds=seconds,
        )
        for spec in signature.outputs:
            problem = _output_problem(spec, signature.batched, outputs.get(spec.name))
            if problem:
                raise InferenceFailed(
                    f"the canary of {model} version {version or 'default'}: "
                    f"output {spec.name!r} {problem}",
                    reason="CANARY_FAILED",
                )
        return outputs

    async def set_trace(
        self, model: str, settings: Mapping[str, tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        """Sets trace settings of a model ("" = of the server); any call also flushes the files.

        Returns all that hold afterwards.
        """
        request = pb.TraceSettingRequest(model_name=model)
        for key, values in settings.items():
            request.settings[key].value.extend(values)
        answer = await self._call("TraceSetting", request, control=True)
        return {key: tuple(setting.value) for key, setting in answer.settings.items()}

    async def _call(
        self, method: str, request: Any, seconds: float | None = None, *, control: bool = False
    ) -> Any:
        try:
            return await getattr(self._stub, method)(
                request,
                timeout=seconds or self._call_seconds,
                metadata=self._token if control else None,
            )
        except grpc.aio.AioRpcError as error:
            raise _typed(method, error) from error


def _typed(method: str, error: grpc.aio.AioRpcError) -> KeeptuneError:
    detail = error.details() or str(error.code())
    if "restricted, expecting header" in detail:
        return PermissionDenied(
            f"{method}: the control token is not the server's", reason="BAD_TOKEN"
        )
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        # Triton says UNAVAILABLE both for a model that is not there and when it is not itself.
        if "unknown model" in detail or "is not at ready state" in detail:
            return NotFound(detail, reason="MODEL_NOT_LOADED")
        return TritonUnavailable(f"{method}: {detail}", retry_after=1.0)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TritonHangs(f"{method} was not answered in time")
    if "is not found" in detail or "unknown model" in detail:
        return NotFound(detail, reason="MODEL_NOT_LOADED")
    return from_rpc_error(error)


def _version(version: int) -> str:
    return str(version) if version else ""


def _spec(tensor: Any) -> TensorSpec:
    name = pb.model__config__pb2.DataType.Name(tensor.data_type)
    datatype = name.removeprefix("TYPE_").replace("STRING", "BYTES")
    return TensorSpec(tensor.name, datatype, tuple(tensor.dims))


def _statistics(entry: Any) -> VersionStatistics:
    stats = entry.inference_stats

    def tally(name: str) -> Tally:
        part = getattr(stats, name)
        return Tally(part.count, part.ns)

    return VersionStatistics(
        model=entry.name,
        version=int(entry.version),
        success=tally("success"),
        fail=tally("fail"),
        queue=tally("queue"),
        compute_input=tally("compute_input"),
        compute_infer=tally("compute_infer"),
        compute_output=tally("compute_output"),
        inferences=entry.inference_count,
        executions=entry.execution_count,
        last_inference=(
            datetime.fromtimestamp(entry.last_inference / 1000, UTC)
            if entry.last_inference
            else None
        ),
    )


def _output_problem(spec: TensorSpec, batched: bool, array: Array | None) -> str:
    if array is None:
        return "is missing"
    if tensors.triton_type(array) != spec.datatype:
        return f"is {tensors.triton_type(array)} instead of {spec.datatype}"
    shape = array.shape[1:] if batched else array.shape
    fits = len(shape) == len(spec.shape) and all(
        wanted in (-1, size) for wanted, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        return f"has the shape {array.shape} instead of {spec.shape} a row"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "holds values that are not finite"
    return ""
