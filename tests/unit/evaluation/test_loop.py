"""The loop on a real store, with judges that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keeptune.evaluation import store
from keeptune.evaluation.hosts import JudgeDied
from keeptune.evaluation.loop import Loop
from keeptune.evaluation.model import (
    DatasetResult,
    Evaluation,
    EvaluationState,
    Gate,
    GateRule,
    Judgement,
    LatencyResult,
    MetricValue,
    ModelResult,
    Outcome,
)
from keeptune.runtime.artifacts import Artifact, ArtifactStore
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import InvalidInput, Unavailable
from keeptune.runtime.events import read_events
from keeptune.v1 import types_pb2

JUDGEMENT = Judgement(
    results=(DatasetResult("d", 9, ModelResult((MetricValue("accuracy", 0.9),))),),
    candidate_latency=LatencyResult(1, 2, 1, 30, 100),
    profile=b"profile",
)


def evaluation(least: float = 0.8) -> Evaluation:
    return Evaluation(
        candidate=Artifact("a" * 64, 1, "application/onnx"),
        champion=None,
        signature=types_pb2.ModelSignature(task=types_pb2.TASK_CLASSIFICATION, classes=["a", "b"]),
        datasets=(types_pb2.Dataset(uri="/d.npz"),),
        gate=Gate((GateRule("accuracy", min=least),)),
    )


@dataclass
class Scripted:
    """A judge that gives its answers in turn, the last one for ever."""

    answers: list[Judgement | Exception | Callable[[], Awaitable[Judgement]]]
    asked: list[Evaluation] = field(default_factory=list)

    async def judge(self, evaluation: Evaluation) -> Judgement:
        self.asked.append(evaluation)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Judgement) else await answer()


@dataclass
class World:
    database: Database
    artifacts: ArtifactStore
    clock: ManualClock

    async def add(self, name: str, doc: Evaluation) -> None:
        await self.database.run(lambda c: store.create(c, name, doc, {}))

    async def get(self, name: str) -> Evaluation:
        return (await self.database.read(lambda c: store.evaluations.get(c, name))).doc

    async def ended(self, *wanted: str) -> list[Evaluation]:
        """The evaluations, once they have ended; time passes quickly meanwhile."""
        async with asyncio.timeout(20):
            while True:
                docs = [await self.get(name) for name in wanted]
                if all(doc.state.ended for doc in docs):
                    return docs
                await asyncio.sleep(0.002)
                self.clock.advance(0.5)

    @asynccontextmanager
    async def running(self, judge: Scripted, parallelism: int = 1) -> AsyncIterator[Loop]:
        loop = Loop(
            self.database, self.artifacts, judge, self.clock,
            parallelism=parallelism, poll_seconds=1.0,
        )  # fmt: skip
        task = asyncio.create_task(loop.run())
        try:
            yield loop
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    database = await Database.open(f"sqlite:///{tmp_path}/e.db", clock=clock)
    await migrate(database)
    yield World(database, ArtifactStore(tmp_path.as_uri() + "/blobs"), clock)
    await database.close()


async def states(world: World, name: str) -> list[str]:
    events = await world.database.read(lambda c: read_events(c, name, 0))
    return [store.evaluations.from_event(event).state for event in events]


async def test_a_verdict_is_stored_with_the_profile(world: World) -> None:
    await world.add("evaluations/x", evaluation())
    async with world.running(Scripted([JUDGEMENT])):
        (doc,) = await world.ended("evaluations/x")
    assert doc.verdict is not None
    assert doc.verdict.outcome is Outcome.PASSED
    assert doc.reason == "accuracy on d is 0.9, at least 0.8 is asked"
    assert doc.reference_profile is not None
    assert await world.artifacts.get_bytes(doc.reference_profile) == b"profile"
    assert doc.end_time == doc.verdict.decide_time
    assert await states(world, "evaluations/x") == ["PENDING", "RUNNING", "SUCCEEDED"]


async def test_a_defect_ends_its_own_evaluation_only(world: World) -> None:
    for name in ("evaluations/x", "evaluations/y"):
        await world.add(name, evaluation())
    async with world.running(Scripted([RuntimeError("a defect"), JUDGEMENT])):
        docs = await world.ended("evaluations/x", "evaluations/y")
    assert {doc.state for doc in docs} == {EvaluationState.FAILED, EvaluationState.SUCCEEDED}
    assert any("a defect" in doc.reason and doc.next_step for doc in docs)


async def test_a_rejected_candidate_is_a_success_of_the_evaluation(world: World) -> None:
    await world.add("evaluations/x", evaluation(least=0.99))
    async with world.running(Scripted([JUDGEMENT])):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.SUCCEEDED
    assert doc.verdict is not None
    assert doc.verdict.outcome is Outcome.REJECTED


async def test_what_was_running_when_the_service_was_killed_is_judged_again(
    world: World,
) -> None:
    await world.add("evaluations/x", evaluation().start())
    async with world.running(Scripted([JUDGEMENT])):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.SUCCEEDED
    assert await states(world, "evaluations/x") == ["RUNNING", "SUCCEEDED"]


async def test_bad_input_fails_it_at_once(world: World) -> None:
    await world.add("evaluations/x", evaluation())
    judge = Scripted([InvalidInput(field="evaluation.candidate", problem="is odd", fix="mend it")])
    async with world.running(judge):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.FAILED
    assert doc.reason == "evaluation.candidate is odd"
    assert doc.next_step == "mend it"
    assert len(judge.asked) == 1


async def test_passing_trouble_is_waited_out(world: World) -> None:
    await world.add("evaluations/x", evaluation())
    judge = Scripted([Unavailable("S3 is away"), Unavailable("S3 is away"), JUDGEMENT])
    async with world.running(judge):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.SUCCEEDED
    events = await world.database.read(lambda c: read_events(c, "evaluations/x", 0))
    reasons = [store.evaluations.from_event(event).doc.reason for event in events]
    assert reasons.count("S3 is away; trying again") == 1


async def test_a_judge_that_dies_once_gets_another_chance(world: World) -> None:
    await world.add("evaluations/x", evaluation())
    async with world.running(Scripted([JudgeDied("it died of SIGSEGV"), JUDGEMENT])):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.SUCCEEDED
    assert doc.crashes == 1


async def test_a_judge_that_dies_twice_fails_it(world: World) -> None:
    await world.add("evaluations/x", evaluation())
    judge = Scripted([JudgeDied("it died of SIGSEGV")])
    async with world.running(judge):
        (doc,) = await world.ended("evaluations/x")
    assert doc.state is EvaluationState.FAILED
    assert doc.reason == "it died of SIGSEGV, 2 times"
    assert doc.next_step
    assert len(judge.asked) == 2


async def test_no_more_than_allowed_are_judged_at_once_oldest_first(world: World) -> None:
    going, most = 0, 0

    async def slow() -> Judgement:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0.02)
        going -= 1
        return JUDGEMENT

    wanted = [f"evaluations/{i}" for i in range(5)]
    for index, name in enumerate(wanted):
        world.clock.advance(1)
        await world.add(name, evaluation(least=index / 10))
    judge = Scripted([slow])
    async with world.running(judge, parallelism=2):
        await world.ended(*wanted)
    assert most == 2
    assert [doc.gate.rules[0].min for doc in judge.asked] == [0, 0.1, 0.2, 0.3, 0.4]


async def test_of_two_replicas_the_first_verdict_stands(world: World) -> None:
    await world.add("evaluations/x", evaluation().start())

    async def overtaken() -> Judgement:
        def other(c: store.Connection) -> None:
            record = store.evaluations.get(c, "evaluations/x")
            store.save(c, record, record.doc.fail(world.clock.now(), "the other one", ""))

        await world.database.run(other)
        return JUDGEMENT

    async with world.running(Scripted([overtaken])):
        (doc,) = await world.ended("evaluations/x")
        for _ in range(20):
            world.clock.advance(0.5)
            await asyncio.sleep(0.002)
    assert (doc.state, doc.reason) == (EvaluationState.FAILED, "the other one")
    assert await states(world, "evaluations/x") == ["RUNNING", "FAILED"]


async def test_an_ended_evaluation_cannot_change(world: World) -> None:
    ended = evaluation().start().fail(world.clock.now(), "x", "")
    with pytest.raises(ValueError, match="cannot become"):
        ended.start()
