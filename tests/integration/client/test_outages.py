"""Work that goes on while the service is killed, is slow, or gives a trial to somebody else."""

import asyncio
import threading
import time

import pytest

from keeptune.client import AsyncClient, Client, Float, StudyEvent, Trial, errors
from keeptune.v1 import search_pb2
from tests.fixtures.served import Served

SPACE = {"x": Float(0, 1)}


def test_a_loop_outlasts_a_service_that_is_killed_twice(own_search_server: Served) -> None:
    server = own_search_server
    with Client(server.address, tokens_file=server.tokens_file) as client:
        study = client.create_study(SPACE, metric="loss", budget=12, algorithm="random")
        reached = threading.Semaphore(0)

        def objective(trial: Trial) -> float:
            for step in range(3):
                trial.report(step, loss=trial.parameters["x"])
                time.sleep(0.05)
            reached.release()
            return float(trial.parameters["x"])

        workers = threading.Thread(
            target=study.optimize, args=(objective,), kwargs={"n_workers": 3}
        )
        workers.start()
        for _ in range(2):
            for _ in range(3):
                assert reached.acquire(timeout=30)
            server.kill()
            time.sleep(0.3)
            server.start()
        workers.join(timeout=60)
        assert not workers.is_alive()
        found = study.results(order_by="create_time")
        assert [(t.number, t.state, t.attempts) for t in found] == [
            (n, "COMPLETED", 1) for n in range(1, 13)
        ]
        assert all(t.metrics["loss"] == t.parameters["x"] for t in found)


async def test_a_watch_resumes_without_missing_or_repeating(own_search_server: Served) -> None:
    server = own_search_server
    async with AsyncClient(server.address, tokens_file=server.tokens_file) as client:
        study = await client.create_study(SPACE, metric="loss", budget=4, algorithm="random")
        events: list[StudyEvent] = []

        async def follow() -> None:
            async for event in study.watch():
                events.append(event)
                if event.study and not event.study.active:
                    return

        following = asyncio.create_task(follow())
        async for trial in study.trials("w"):
            await trial.complete(loss=0.5)
            if trial.number == 2:
                server.kill()
                await asyncio.to_thread(server.start)
        await asyncio.wait_for(following, 30)
        revisions = [event.revision for event in events]
        assert revisions == sorted(set(revisions))
        completed = [e.trial.number for e in events if e.trial and e.trial.state == "COMPLETED"]
        assert completed == [1, 2, 3, 4]


def test_work_that_takes_longer_than_the_lease_keeps_it(client: Client) -> None:
    study = client.create_study(
        SPACE, metric="loss", budget=1, algorithm="random", lease_seconds=1.5
    )
    for trial in study.trials("slow"):
        with trial:
            time.sleep(4)
            # Another worker asks all the while and gets nothing.
            asked = search_pb2.SuggestTrialsRequest(study=study.name, worker="other", count=1)
            assert not client.search.SuggestTrials(asked).trials
            assert trial.complete(loss=0.1)
    (result,) = study.results()
    assert (result.state, result.attempts) == ("COMPLETED", 1)


def test_a_trial_left_behind_goes_to_another_worker(client: Client) -> None:
    study = client.create_study(SPACE, metric="loss", budget=1, algorithm="random", lease_seconds=1)
    left = next(trials := iter(study.trials("first")))
    del trials
    time.sleep(1.2)
    for trial in study.trials("second"):
        assert trial.name == left.name and trial.parameters == left.parameters
        assert not left.report(1, loss=9.0)
        assert left.lost and left.should_stop
        assert not left.complete(loss=9.0)
        assert trial.complete(loss=0.1)
    (result,) = study.results()
    assert (result.metrics["loss"], result.attempts) == (0.1, 2)
    with pytest.raises(errors.FailedPrecondition, match="outcome already"):
        trial.report(2, loss=0.0)


def test_a_worker_that_comes_back_gets_its_trial_again(client: Client) -> None:
    study = client.create_study(SPACE, metric="loss", budget=2, algorithm="random")
    first = next(iter(study.trials("stable")))
    for again in study.trials("stable"):
        assert again.name == first.name
        again.complete(loss=0.1)
        break


def test_patience_ends(own_search_server: Served) -> None:
    server = own_search_server
    with Client(server.address, tokens_file=server.tokens_file, timeout=4, patience=4) as client:
        study = client.create_study(SPACE, metric="loss", budget=2, algorithm="random")
        for trial in study.trials("w"):
            server.kill()
            started = time.monotonic()
            with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
                trial.report(1, loss=0.5)
            assert time.monotonic() - started < 40
            server.start()
            assert trial.complete(loss=0.5)
            break


def test_nothing_listens_and_the_wrong_token(search_server: Served) -> None:
    nowhere = Client("127.0.0.1:9", token="x", wait_for_ready=False)
    with nowhere, pytest.raises(errors.Unavailable, match=r"search at 127\.0\.0\.1:9 cannot be"):
        nowhere.study("any")
    with Client(search_server.address, token="x") as client:
        with pytest.raises(errors.Unauthenticated):
            client.study("any")
        with pytest.raises(errors.Unauthenticated):
            next(iter(client.search.WatchStudy(search_pb2.WatchStudyRequest(study="studies/a"))))
