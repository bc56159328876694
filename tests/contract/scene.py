"""What single tests need in the product, made under names of their own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.calls import calling
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)
from tests.contract.product import Client, Product
from tests.contract.world import NOWHERE, World, policy, snapshot

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Scene:
    """`id` is new in every test; everything is named by it."""

    client: Client
    product: Product
    world: World
    id: str = field(default_factory=lambda: f"scene-{next(_numbers)}")

    async def call(self, rpc: str, request: Any) -> Any:
        return await calling(self.client.method(rpc)(request))

    async def study(self) -> Any:
        create = search_pb2.CreateStudyRequest(study_id=self.id, study=small_study())
        return await self.call("SearchService.CreateStudy", create)

    async def leased(self) -> Any:
        """A trial and its lease, of a study of its own."""
        study = await self.study()
        suggest = search_pb2.SuggestTrialsRequest(study=study.name, worker="w")
        return (await self.call("SearchService.SuggestTrials", suggest)).trials[0]

    def training(self) -> training_pb2.Training:
        return training_pb2.Training(
            fixed=training_pb2.FixedParameters(),
            trainer="trainers/tabular",
            task=types_pb2.TASK_CLASSIFICATION,
            datasets=[self.world.dataset()],
            max_epochs=1,
        )

    def evaluation(self) -> evaluation_pb2.Evaluation:
        return evaluation_pb2.Evaluation(
            candidate=self.world.onnx, datasets=[self.world.dataset(held_out=True)]
        )

    async def model(self) -> Any:
        create = deployment_pb2.CreateModelRequest(
            model_id=self.id, model=deployment_pb2.Model(host_selector=NOWHERE)
        )
        return await self.call("DeploymentService.CreateModel", create)

    async def version(self) -> Any:
        model = await self.model()
        create = deployment_pb2.CreateModelVersionRequest(
            parent=model.name, version=deployment_pb2.ModelVersion(onnx=self.world.onnx)
        )
        return await self.call("DeploymentService.CreateModelVersion", create)

    async def rollout(self) -> Any:
        """One that waits for a host."""
        version = await self.version()
        create = deployment_pb2.CreateRolloutRequest(
            rollout_id=self.id,
            rollout=deployment_pb2.Rollout(
                version=version.name, evaluation=self.world.retune.evaluation
            ),
        )
        return await self.call("DeploymentService.CreateRollout", create)

    async def capture(self, size: int = 4, **wrong: Any) -> Any:
        """The answer to an upload of labelled samples of the world's first version."""
        content = captured(size)
        header = deployment_pb2.CaptureHeader(
            request_id=self.id,
            host=f"hosts/{self.id}",
            model=self.world.retune.model,
            version=self.world.retune.version,
            rows=size,
            sha256=sha256_of(content),
        )
        for name, value in wrong.items():
            setattr(header, name, value)
        parts = [
            deployment_pb2.UploadCaptureRequest(header=header),
            deployment_pb2.UploadCaptureRequest(data=content),
        ]
        return await calling(self.client.method("AgentLink.UploadCapture")(iter(parts)))

    def policy(self, **more: Any) -> retuning_pb2.Policy:
        return policy(self.id, self.world.rows, self.world.held_out, **more)

    async def applied(self) -> Any:
        """A policy whose first retune has been cancelled."""
        apply = retuning_pb2.ApplyPolicyRequest(policy_id=self.id, policy=self.policy())
        applied = await self.call("RetuningService.ApplyPolicy", apply)
        await self.cancelled(applied.last_retune)
        return applied

    async def mine(self) -> dict[str, str]:
        """The etags of what has the scene's id in its name."""
        found = await snapshot(self.client)
        return {name: etag for name, etag in found.items() if self.id in name.split("/")[1]}

    async def cancelled(self, retune: str) -> None:
        """Cancels it and waits for its end."""
        cancel = retuning_pb2.CancelRetuneRequest(name=retune)
        await self.call("RetuningService.CancelRetune", cancel)
        get = retuning_pb2.GetRetuneRequest(name=retune)
        async with asyncio.timeout(60):
            while not (await self.call("RetuningService.GetRetune", get)).HasField("end_time"):
                await asyncio.sleep(0.05)


def small_study(**more: Any) -> search_pb2.Study:
    """x between 0 and 1, for the least loss."""
    wanted = search_pb2.Study(
        space=types_pb2.SearchSpace(
            parameters=[
                types_pb2.ParameterSpec(name="x", float_range=types_pb2.FloatRange(min=0, max=1))
            ]
        ),
        metrics=[search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)],
        algorithm=search_pb2.Algorithm(name="random"),
        budget=search_pb2.Budget(max_trials=10),
        # Longer than all the tests take.
        lease_duration=Duration(seconds=3600),
        seed=1,
    )
    wanted.MergeFrom(search_pb2.Study(**more))
    return wanted


def loss(value: float, step: int = 0) -> types_pb2.Measurement:
    return types_pb2.Measurement(step=step, metrics={"loss": value})


def known_trial(x: float, value: float) -> search_pb2.Trial:
    """A result from elsewhere."""
    return search_pb2.Trial(
        state=search_pb2.TRIAL_STATE_COMPLETED,
        parameters={"x": types_pb2.ParameterValue(double_value=x)},
        final_measurement=loss(value),
    )


def captured(rows: int) -> bytes:
    """Labelled samples as an agent uploads them."""
    target = io.BytesIO()
    np.savez(
        target,
        features=np.zeros((rows, 3), np.float32),
        y=np.array(["left"] * rows),
        time=1_780_000_000.0 + np.arange(rows),
        request_id=np.array([f"r{i}" for i in range(rows)]),
    )
    return target.getvalue()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
