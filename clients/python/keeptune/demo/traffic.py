"""Requests to Triton at a steady pace; the true labels follow seconds later."""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import numpy as np
import structlog
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from keeptune.demo.data import Camera
from keeptune.demo.timeline import Request
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import KeeptuneError
from keeptune.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from keeptune.demo.data import Scans

log = structlog.get_logger()

# Far above any latency: an expired deadline would be a failure of ours, not of the server's.
_DEADLINE_SECONDS = 20.0
_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass
class Scene:
    """What stands before the camera now; the story changes it while the traffic runs."""

    scans: Scans
    camera: Camera = field(default_factory=Camera)


class Traffic:
    """Serves a scene at `rate` requests a second, each with an id of its own."""

    def __init__(
        self,
        *,
        triton: str,
        model: str,
        scene: Scene,
        agent: grpc.aio.Channel,
        seed: int,
        rate: float,
        seen: Callable[[Request], None],
        clock: Callable[[], float],
        retry_seconds: float = 0.0,
    ) -> None:
        self.scene = scene
        self._triton = triton
        self._model = model
        self._agent = agent_pb2_grpc.AgentServiceStub(agent)
        self._rng = np.random.default_rng(seed)
        self._rate = rate
        self._seen = seen
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._count = 0
        self._labels: list[tuple[float, str, str]] = []

    async def run(self) -> None:
        """Until cancelled; the requests under way are then still waited for."""
        async with InferenceServerClient(self._triton, channel_args=_CHANNEL) as client:
            labels = asyncio.create_task(self._tell_labels())
            under_way: set[asyncio.Task[None]] = set()
            start = time.monotonic()
            sent = 0
            try:
                while True:
                    task = asyncio.create_task(self._ask(client))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    sent += 1
                    await asyncio.sleep(max(0.0, start + sent / self._rate - time.monotonic()))
            finally:
                labels.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _ask(self, client: InferenceServerClient) -> None:
        self._count += 1
        request_id = f"scan-{self._count:06d}"
        index = int(self._rng.integers(len(self.scene.scans.labels)))
        label = str(self.scene.scans.labels[index])
        image = self.scene.camera.look(self.scene.scans.images[index : index + 1], self._rng)
        tensor = InferInput("image", list(image.shape), "FP32")
        tensor.set_data_from_numpy(image)
        began = self._clock()
        failure, version, right = "", "", False
        while True:
            try:
                answer = await client.infer(
                    self._model,
                    [tensor],
                    request_id=request_id,
                    client_timeout=_DEADLINE_SECONDS,
                )
            except InferenceServerException as error:
                failure = str(error)
                # Only where the server itself is killed on purpose: as a client with retries.
                if self._clock() - began < self._retry_seconds:
                    await asyncio.sleep(0.1)
                    continue
                break
            failure = ""
            version = answer.get_response().model_version
            right = str(int(answer.as_numpy("probabilities")[0].argmax())) == label
            break
        now = self._clock()
        self._seen(Request(began, 1000 * (now - began), version, right, failure))
        if failure:
            log.error("a request failed", request=request_id, error=failure)
        else:
            due = time.monotonic() + float(self._rng.uniform(0.5, 2.0))
            heapq.heappush(self._labels, (due, request_id, label))

    async def _tell_labels(self) -> None:
        """Sends due labels in batches, twice a second; what the agent missed is sent again."""
        batch = 0
        while True:
            await asyncio.sleep(0.5)
            due = []
            while self._labels and self._labels[0][0] <= time.monotonic():
                due.append(heapq.heappop(self._labels))
            if not due:
                continue
            batch += 1
            try:
                await calling(
                    self._agent.RecordOutcomes(
                        agent_pb2.RecordOutcomesRequest(
                            request_id=f"labels-{batch}",
                            model=f"models/{self._model}",
                            outcomes=[
                                agent_pb2.Outcome(request_id=request_id, label=label)
                                for _, request_id, label in due
                            ],
                        )
                    )
                )
            except KeeptuneError as error:
                log.warning("the agent did not take the labels; trying again", error=str(error))
                for item in due:
                    heapq.heappush(self._labels, item)
