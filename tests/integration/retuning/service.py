"""The retuning service behind a real server, with peers that do as the test says.

The peers speak the real contracts over gRPC and keep what they are told, by name and idempotently
as the real ones do; what they answer about a training, an evaluation or a rollout is the script's.
The loop with the real services is tested end to end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keeptune.retuning.config import RetuningSettings
from keeptune.retuning.program import build
from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.auth import ClientCredentials, Role, Tokens
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.clock import SystemClock
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    KeeptuneError,
    NotFound,
    Unavailable,
)
from keeptune.runtime.server import Context, Program, serve
from keeptune.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
    retuning_pb2,
    retuning_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    types_pb2,
)

ONNX = types_pb2.Artifact(sha256="a" * 64, size_bytes=10, media_type="application/onnx")
PROFILE = types_pb2.Artifact(sha256="b" * 64, size_bytes=10, media_type="application/x-protobuf")
TOKEN = "secret"
AGENT_TOKEN = "an agent's"


@dataclass
class Script:
    """What the peers answer; `calls` counts what they were asked to make, by name."""

    training: int = training_pb2.TRAINING_STATE_SUCCEEDED
    verdict: int = evaluation_pb2.VERDICT_OUTCOME_PASSED
    rollout: int = deployment_pb2.ROLLOUT_STATE_SUCCEEDED
    rollout_refusal: str = ""
    # How often ExportCaptures does its work and its answer is lost.
    lost_answers: int = 0
    champion: str = ""
    captures: int = 1000
    # Studies of the model's earlier retunes, the latest first, with how many trials completed.
    studies: dict[str, int] = field(default_factory=dict)
    # Those of which nothing means anything in the new space.
    useless: tuple[str, ...] = ()
    # Method names that fail with UNAVAILABLE, this many times each.
    outages: Counter[str] = field(default_factory=Counter)
    # What methods refuse to do when they are only asked to check.
    refusals: dict[str, KeeptuneError] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    made: dict[str, Any] = field(default_factory=dict)
    answered: dict[str, Any] = field(default_factory=dict)

    def answer(self, request: Any) -> None:
        """Refuses, as the real ledgers do, what comes under the id of another request."""
        if self.answered.setdefault(request.request_id, request) != request:
            raise InvalidInput(
                field="request_id",
                problem=f"{request.request_id!r} was used for another request",
                reason="REQUEST_ID_REUSED",
            )

    def checked(self, method: str, wanted: Any) -> Any:
        """What is asked for show only."""
        if self.refusals.get(method):
            raise self.refusals[method]
        return wanted

    def asked(self, method: str, name: str) -> None:
        if self.outages[method]:
            self.outages[method] -= 1
            raise Unavailable(f"{method} is out")
        self.calls[f"{method} {name}"] += 1


class Search(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def CreateStudy(self, request: Any, context: Any) -> Any:
        if request.validate_only:
            return self.script.checked("CreateStudy", request.study)
        for i, name in enumerate(request.study.warm_start):
            if name in self.script.useless:
                raise InvalidInput(field=f"study.warm_start[{i}]", problem="teaches nothing")
        self.script.asked("CreateStudy", request.study_id)
        self.script.made["study"] = request.study
        return search_pb2.Study(name=f"studies/{request.study_id}")

    async def GetStudy(self, request: Any, context: Any) -> Any:
        if f"CreateStudy {request.name.removeprefix('studies/')}" not in self.script.calls:
            raise NotFound(f"{request.name} does not exist")
        return search_pb2.Study(name=request.name)

    async def ListStudies(self, request: Any, context: Any) -> Any:
        self.script.made["studies filter"] = request.filter
        return search_pb2.ListStudiesResponse(
            studies=[
                search_pb2.Study(name=name, trial_counts=search_pb2.TrialCounts(completed=count))
                for name, count in self.script.studies.items()
            ]
        )

    async def StopStudy(self, request: Any, context: Any) -> Any:
        self.script.asked("StopStudy", request.name)
        return search_pb2.Study(name=request.name)


class Training(training_pb2_grpc.TrainingServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def GetTrainer(self, request: Any, context: Any) -> Any:
        if request.name != "trainers/image":
            raise NotFound(f"{request.name} is not installed", fix="use trainers/image")
        space = types_pb2.SearchSpace()
        space.parameters.add(name="width").int_range.max = 3
        return training_pb2.Trainer(
            name=request.name,
            tasks=[types_pb2.TASK_CLASSIFICATION],
            recommended_space=space,
            metrics=[search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)],
        )

    async def CreateTraining(self, request: Any, context: Any) -> Any:
        if request.validate_only:
            return self.script.checked("CreateTraining", request.training)
        self.script.asked("CreateTraining", request.training_id)
        self.script.made["training"] = request.training
        return training_pb2.Training(name=f"trainings/{request.training_id}")

    async def GetTraining(self, request: Any, context: Any) -> Any:
        if f"CreateTraining {request.name.removeprefix('trainings/')}" not in self.script.calls:
            raise NotFound(f"{request.name} does not exist")
        training = training_pb2.Training(
            name=request.name, state=self.script.training, reason="as scripted", trials_done=3
        )
        training.model.onnx.CopyFrom(ONNX)
        return training

    async def CancelTraining(self, request: Any, context: Any) -> Any:
        self.script.asked("CancelTraining", request.name)
        self.script.training = training_pb2.TRAINING_STATE_CANCELLED
        return training_pb2.Training(name=request.name)


class Evaluation(evaluation_pb2_grpc.EvaluationServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def CreateEvaluation(self, request: Any, context: Any) -> Any:
        if request.validate_only:
            return self.script.checked("CreateEvaluation", request.evaluation)
        self.script.asked("CreateEvaluation", request.evaluation_id)
        if not all(dataset.WhichOneof("source") for dataset in request.evaluation.datasets):
            raise InvalidInput(field="evaluation.datasets", problem="has one without a source")
        self.script.made["evaluation"] = request.evaluation
        return evaluation_pb2.Evaluation(name=f"evaluations/{request.evaluation_id}")

    async def GetEvaluation(self, request: Any, context: Any) -> Any:
        evaluation = evaluation_pb2.Evaluation(
            name=request.name, state=evaluation_pb2.EVALUATION_STATE_SUCCEEDED
        )
        evaluation.reference_profile.CopyFrom(PROFILE)
        evaluation.verdict.outcome = self.script.verdict
        evaluation.verdict.reason = "as scripted"
        return evaluation


class Deployment(deployment_pb2_grpc.DeploymentServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def GetModel(self, request: Any, context: Any) -> Any:
        if "model" not in self.script.made:
            raise NotFound(f"{request.name} does not exist")
        return deployment_pb2.Model(name=request.name, champion=self.script.champion)

    async def CreateModel(self, request: Any, context: Any) -> Any:
        self.script.asked("CreateModel", request.model_id)
        self.script.made["model"] = request.model
        return deployment_pb2.Model(name=f"models/{request.model_id}")

    async def UpdateModel(self, request: Any, context: Any) -> Any:
        self.script.asked("UpdateModel", request.model.name)
        self.script.answer(request)
        self.script.made["model"] = request.model
        return deployment_pb2.Model(name=request.model.name, champion=self.script.champion)

    async def GetModelVersion(self, request: Any, context: Any) -> Any:
        return deployment_pb2.ModelVersion(name=request.name, onnx=ONNX)

    async def CreateModelVersion(self, request: Any, context: Any) -> Any:
        self.script.asked("CreateModelVersion", request.version.lineage.retune)
        self.script.made["version"] = request.version
        return deployment_pb2.ModelVersion(name=f"{request.parent}/versions/7")

    async def ExportCaptures(self, request: Any, context: Any) -> Any:
        self.script.asked("ExportCaptures", request.request_id)
        if self.script.captures < request.min_rows:
            raise FailedPrecondition(
                f"{self.script.captures} of {request.min_rows} rows", reason="TOO_FEW_CAPTURES"
            )
        self.script.answer(request)
        if self.script.lost_answers:
            # Done, and the answer is lost on the way.
            self.script.lost_answers -= 1
            raise Unavailable("the link broke")
        wanted = request.recent_fraction if request.HasField("recent_fraction") else 0.25
        recent = int(600 * wanted)
        export = deployment_pb2.CaptureExport(training_rows=450, recent_rows=recent)
        export.training.uri = "/captures/training.npz"
        if recent:
            export.recent.uri = "/captures/recent.npz"
        return export

    async def CreateRollout(self, request: Any, context: Any) -> Any:
        if request.validate_only:
            return self.script.checked("CreateRollout", request.rollout)
        if self.script.rollout_refusal:
            raise FailedPrecondition("not now", reason=self.script.rollout_refusal)
        self.script.asked("CreateRollout", request.rollout_id)
        self.script.made["rollout"] = request.rollout
        return deployment_pb2.Rollout(name=f"rollouts/{request.rollout_id}")

    async def GetRollout(self, request: Any, context: Any) -> Any:
        if f"CreateRollout {request.name.removeprefix('rollouts/')}" not in self.script.calls:
            raise NotFound(f"{request.name} does not exist")
        if self.script.rollout == deployment_pb2.ROLLOUT_STATE_SUCCEEDED:
            self.script.champion = f"{self.script.made['rollout'].version}"
        return deployment_pb2.Rollout(
            name=request.name, state=self.script.rollout, reason="as scripted"
        )

    async def RollBack(self, request: Any, context: Any) -> Any:
        self.script.asked("RollBack", request.name)
        self.script.answer(request)
        self.script.rollout = deployment_pb2.ROLLOUT_STATE_ROLLING_BACK
        return deployment_pb2.Rollout(name=request.name)


def peers(script: Script) -> Program:
    return Program(
        name="peers",
        servicers=[
            (
                search_pb2_grpc.add_SearchServiceServicer_to_server,
                Search(script),
                "keeptune.v1.SearchService",
            ),
            (
                training_pb2_grpc.add_TrainingServiceServicer_to_server,
                Training(script),
                "keeptune.v1.TrainingService",
            ),
            (
                evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
                Evaluation(script),
                "keeptune.v1.EvaluationService",
            ),
            (
                deployment_pb2_grpc.add_DeploymentServiceServicer_to_server,
                Deployment(script),
                "keeptune.v1.DeploymentService",
            ),
        ],
    )


@dataclass
class Service:
    """The running service and its stubs: a person's and an agent's."""

    stub: Any
    script: Script
    agent: Any

    async def apply(self, policy: retuning_pb2.Policy, **more: Any) -> retuning_pb2.Policy:
        request = retuning_pb2.ApplyPolicyRequest(policy_id="p", policy=policy, **more)
        applied: retuning_pb2.Policy = await calling(self.stub.ApplyPolicy(request))
        return applied

    async def request(self, **more: Any) -> retuning_pb2.RequestRetuneResponse:
        request = retuning_pb2.RequestRetuneRequest(model="models/m", **more)
        answer: retuning_pb2.RequestRetuneResponse = await calling(self.stub.RequestRetune(request))
        return answer

    async def get(self, name: str) -> retuning_pb2.Retune:
        found: retuning_pb2.Retune = await calling(
            self.stub.GetRetune(retuning_pb2.GetRetuneRequest(name=name))
        )
        return found

    async def retunes(self) -> list[retuning_pb2.Retune]:
        listed = await calling(self.stub.ListRetunes(retuning_pb2.ListRetunesRequest()))
        return list(listed.retunes)

    async def policies(self) -> list[retuning_pb2.Policy]:
        listed = await calling(self.stub.ListPolicies(retuning_pb2.ListPoliciesRequest()))
        return list(listed.policies)

    async def reaches(self, name: str, state: str, seconds: float = 20) -> retuning_pb2.Retune:
        """The retune once it is in that state."""
        wanted = retuning_pb2.RetuneState.Value(f"RETUNE_STATE_{state}")
        async with asyncio.timeout(seconds):
            while (found := await self.get(name)).state != wanted:
                await asyncio.sleep(0.02)
        return found

    async def newest_reaches(self, state: str) -> retuning_pb2.Retune:
        return await self.reaches((await self.retunes())[-1].name, state)


@asynccontextmanager
async def served(program: Program) -> AsyncIterator[str]:
    """The program at an address of its own."""
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = ServerSettings(listen="127.0.0.1:0", drain_seconds=0.2)
    tokens = Tokens({TOKEN: Role.OPERATOR, AGENT_TOKEN: Role.AGENT})
    task = asyncio.create_task(
        serve([program], server, tokens=tokens, ready=address.set_result, stop=stop)
    )
    await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield address.result()
    finally:
        stop.set()
        await task


@asynccontextmanager
async def running(folder: Path, script: Script | None = None) -> AsyncIterator[Service]:
    """The service and its scripted peers; run it again on the same folder to restart it."""
    script = script or Script()
    credentials = ClientCredentials(TOKEN)
    async with served(peers(script)) as peers_address:
        channel = open_channel(peers_address, credentials=credentials, wait_for_ready=False)
        context = Context(
            clock=SystemClock(),
            data_dir=folder,
            artifacts=ArtifactStore((folder / "artifacts").as_uri()),
            open_channel=lambda _: channel,
            rng=random.Random(0),
        )
        program = await build(RetuningSettings(poll_seconds=0.05), context)
        async with (
            channel,
            served(program) as address,
            open_channel(address, credentials=credentials) as own,
            open_channel(address, credentials=ClientCredentials(AGENT_TOKEN)) as agents,
        ):
            yield Service(
                retuning_pb2_grpc.RetuningServiceStub(own),
                script,
                retuning_pb2_grpc.RetuningServiceStub(agents),
            )


def policy(**fresh: Any) -> retuning_pb2.Policy:
    result = retuning_pb2.Policy(
        model="models/m", trainer="trainers/image", task=types_pb2.TASK_CLASSIFICATION
    )
    result.data.training.add(uri="/data/train.npz")
    result.data.evaluation.add(uri="/data/test.npz", display_name="original")
    if fresh:
        result.data.fresh.CopyFrom(retuning_pb2.FreshData(enabled=True, **fresh))
    result.cooldown.SetInParent()
    return result
