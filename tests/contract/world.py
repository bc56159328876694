"""What stands in the product before the tests begin: one pass of the real loop, and its makings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

SECONDS = 240
CLASSES = ("left", "right")
# No host has it, so that rollouts wait for ever.
NOWHERE = {"rack": "none"}


@dataclass(frozen=True)
class World:
    """`retune` went all the way to a rollout that waits for a host; `approval` let it pass.

    `studied` is a study with enough results to learn from.
    """

    rows: Path
    held_out: Path
    retune: retuning_pb2.Retune
    approval: retuning_pb2.ApproveRetuneRequest
    approved: retuning_pb2.Retune
    onnx: types_pb2.Artifact
    studied: str

    def dataset(self, name: str = "", *, held_out: bool = False) -> types_pb2.Dataset:
        source = self.held_out if held_out else self.rows
        return types_pb2.Dataset(uri=str(source), display_name=name)


def write_rows(path: Path, seed: int, rows: int = 120) -> Path:
    """Points left and right of a line."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    x[:, 0] += np.where(np.arange(rows) % 2, 2.0, -2.0)
    np.savez(path, x=x, y=np.where(np.arange(rows) % 2, "right", "left"))
    return path


def policy(model: str, rows: Path, held_out: Path, **more: Any) -> retuning_pb2.Policy:
    """A small one: two trials of at most three epochs, and a gate that lets all pass."""
    wanted = retuning_pb2.Policy(
        model=f"models/{model}",
        trainer="trainers/tabular",
        task=types_pb2.TASK_CLASSIFICATION,
        data=retuning_pb2.PolicyData(
            training=[types_pb2.Dataset(uri=str(rows))],
            evaluation=[types_pb2.Dataset(uri=str(held_out), display_name="original")],
        ),
        search=retuning_pb2.PolicySearch(
            budget=search_pb2.Budget(max_trials=2),
            algorithm=search_pb2.Algorithm(name="random"),
            seed=1,
        ),
        training=retuning_pb2.PolicyTraining(max_epochs=3, parallelism=1),
        gate=evaluation_pb2.Gate(rules=[evaluation_pb2.GateRule(metric="accuracy", min=0.0)]),
        host_selector=NOWHERE,
    )
    wanted.MergeFrom(retuning_pb2.Policy(**more))
    return wanted


async def build_world(product: Product) -> World:
    """Applies a policy and follows its retune through every service."""
    folder = product.plane.folder
    rows = await asyncio.to_thread(write_rows, folder / "rows.npz", 1)
    held_out = await asyncio.to_thread(write_rows, folder / "held-out.npz", 2)
    async with product.client() as client:
        wanted = policy("loop", rows, held_out, require_approval=True)
        applied = await calling(
            client.method("RetuningService.ApplyPolicy")(
                retuning_pb2.ApplyPolicyRequest(
                    request_id="world/apply", policy_id="loop", policy=wanted
                )
            )
        )
        name = applied.last_retune
        retune = await until(client, name, retuning_pb2.RETUNE_STATE_AWAITING_APPROVAL)
        approval = retuning_pb2.ApproveRetuneRequest(
            request_id="world/approve", name=name, note="go on"
        )
        approved = await calling(client.method("RetuningService.ApproveRetune")(approval))
        retune = await until(client, name, retuning_pb2.RETUNE_STATE_ROLLING_OUT)
        async with asyncio.timeout(SECONDS):
            while not retune.rollout:
                await asyncio.sleep(0.1)
                retune = await get_retune(client, name)
        studied = await build_study(client)
        trained = await calling(
            client.method("TrainingService.GetTraining")(
                training_pb2.GetTrainingRequest(name=retune.training)
            )
        )
    return World(rows, held_out, retune, approval, approved, trained.model.onnx, studied)


async def build_study(client: Client) -> str:
    """x between 0 and 1 for the least loss, and a dozen results."""
    study = search_pb2.Study(
        space=types_pb2.SearchSpace(
            parameters=[
                types_pb2.ParameterSpec(name="x", float_range=types_pb2.FloatRange(min=0, max=1))
            ]
        ),
        metrics=[search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)],
        algorithm=search_pb2.Algorithm(name="random"),
        budget=search_pb2.Budget(max_trials=20),
        seed=1,
    )
    create = search_pb2.CreateStudyRequest(
        request_id="world/study", study_id="studied", study=study
    )
    name: str = (await calling(client.method("SearchService.CreateStudy")(create))).name
    trials = [
        search_pb2.Trial(
            state=search_pb2.TRIAL_STATE_COMPLETED,
            parameters={"x": types_pb2.ParameterValue(double_value=x)},
            final_measurement=types_pb2.Measurement(metrics={"loss": (x - 0.3) ** 2}),
        )
        for x in (np.arange(12) / 12).tolist()
    ]
    add = search_pb2.AddTrialsRequest(request_id="world/trials", study=name, trials=trials)
    await calling(client.method("SearchService.AddTrials")(add))
    return name


async def get_retune(client: Client, name: str) -> retuning_pb2.Retune:
    get = client.method("RetuningService.GetRetune")
    found: retuning_pb2.Retune = await calling(get(retuning_pb2.GetRetuneRequest(name=name)))
    return found


async def until(client: Client, name: str, state: int) -> retuning_pb2.Retune:
    """The retune once it is in that state."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await get_retune(client, name)
            if found.state == state:
                return found
            assert found.state < retuning_pb2.RETUNE_STATE_SUCCEEDED, found.reason
            await asyncio.sleep(0.1)


async def at_rest(client: Client) -> None:
    """Returns once nothing changes by itself any more."""
    busy = " OR ".join(
        f"state = {state}"
        for state in ("PENDING", "RUNNING", "EXPORTING", "SEARCHING", "COMPRESSING", "EVALUATING")
    )
    async with asyncio.timeout(SECONDS):
        for rpc, request, field in _LISTS:
            if rpc.startswith(("SearchService", "DeploymentService")):
                continue
            asked = type(request)(filter=busy, page_size=1)
            while getattr(await calling(client.method(rpc)(asked)), field):
                await asyncio.sleep(0.1)


async def snapshot(client: Client) -> dict[str, str]:
    """The etag of everything that there is, by name: equal when nothing has changed."""
    found: dict[str, str] = {}
    for rpc, request, field in _LISTS:
        async for resource in everything(client, rpc, request, field):
            found[resource.name] = resource.metadata.etag
            if rpc == "DeploymentService.ListModels":
                versions = deployment_pb2.ListModelVersionsRequest(parent=resource.name)
                async for version in everything(
                    client, "DeploymentService.ListModelVersions", versions, "versions"
                ):
                    found[version.name] = version.metadata.etag
            if rpc == "SearchService.ListStudies":
                found[f"{resource.name} counts"] = str(resource.trial_counts)
    return found


async def everything(client: Client, rpc: str, request: Any, field: str) -> Any:
    """All of a list, page by page."""
    asked = type(request)()
    asked.CopyFrom(request)
    asked.page_size = 1000
    while True:
        page = await calling(client.method(rpc)(asked))
        for item in getattr(page, field):
            yield item
        asked.page_token = page.next_page_token
        if not asked.page_token:
            return


_LISTS: tuple[tuple[str, Any, str], ...] = (
    ("SearchService.ListStudies", search_pb2.ListStudiesRequest(), "studies"),
    ("TrainingService.ListTrainings", training_pb2.ListTrainingsRequest(), "trainings"),
    ("EvaluationService.ListEvaluations", evaluation_pb2.ListEvaluationsRequest(), "evaluations"),
    ("DeploymentService.ListModels", deployment_pb2.ListModelsRequest(), "models"),
    ("DeploymentService.ListRollouts", deployment_pb2.ListRolloutsRequest(), "rollouts"),
    ("RetuningService.ListPolicies", retuning_pb2.ListPoliciesRequest(), "policies"),
    ("RetuningService.ListRetunes", retuning_pb2.ListRetunesRequest(), "retunes"),
)
