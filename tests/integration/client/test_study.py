"""A study from one's own code, on a real search service."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keeptune.client import Asha, AsyncClient, Choice, Client, Float, Int, Metric, Trial, errors
from keeptune.v1 import search_pb2
from tests.fixtures.served import Served

SPACE = {
    "learning_rate": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 4),
    "activation": Choice(["relu", "gelu"]),
}


def test_the_loop_of_the_readme(client: Client) -> None:
    study = client.create_study(space=SPACE, metric="accuracy", goal="maximize", budget=8)
    seen = []
    for trial in study.trials(worker="laptop"):
        with trial:
            for epoch in range(3):
                accuracy = trial.parameters["layers"] / 4 - 0.1 / (epoch + 1)
                if not trial.report(epoch, accuracy=accuracy):
                    break
            trial.complete(accuracy=accuracy)
        seen.append(trial.number)
    assert seen == list(range(1, 9))
    best = study.best
    assert best.state == "COMPLETED"
    assert best.metrics["accuracy"] == pytest.approx(best.parameters["layers"] / 4 - 0.1 / 3)
    assert set(best.parameters) == set(SPACE)
    status = study.status()
    assert (status.state, status.trials["completed"]) == ("COMPLETED", 8)
    history = study.results(history=True, filter="state = COMPLETED")[0].history
    assert [step for step, _ in history] == [0, 1, 2]


def test_the_study_of_the_tour(search_server: Served) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[3] / "docs/tour/study.py"],
        env=os.environ
        | {
            "KEEPTUNE_ADDRESS": search_server.address,
            "KEEPTUNE_TOKENS_FILE": str(search_server.tokens_file),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    with Client(search_server.address, tokens_file=search_server.tokens_file) as client:
        study = client.study("first")
        trials = study.status().trials
        assert done.stdout.strip() == str(study.best.parameters)
    assert trials["completed"] + trials["pruned"] == 40
    assert trials["pruned"] > 0


def test_optimize_with_several_workers_does_each_trial_once(client: Client) -> None:
    study = client.create_study(
        {"x": Float(-3, 3)}, metric="loss", goal="minimize", budget=12, algorithm="quasi-random"
    )
    lock, done = threading.Lock(), []

    def objective(trial: Trial) -> float:
        time.sleep(0.02)
        with lock:
            done.append(trial.number)
        return float(trial.parameters["x"] ** 2)

    study.optimize(objective, n_workers=3)
    assert sorted(done) == list(range(1, 13))
    workers = {
        attempt["worker"].rpartition("-")[2]
        for trial in client.find("trials", parent=study.name)
        for attempt in trial["attempts"]
    }
    assert workers == {"1", "2", "3"}
    assert study.best.metrics["loss"] == min(
        t.metrics["loss"] for t in study.results(order_by="metrics.loss")
    )


async def test_the_same_with_an_event_loop(search_server: Served) -> None:
    async with AsyncClient(search_server.address, tokens_file=search_server.tokens_file) as client:
        study = await client.create_study(
            {"x": Float(-3, 3)}, metric="loss", goal="minimize", budget=6, algorithm="random"
        )
        async for trial in study.trials(worker="w1"):
            async with trial:
                await trial.report(1, loss=trial.parameters["x"] ** 2)
                await trial.complete()
            if trial.number == 3:
                break
        await study.optimize(lambda trial: {"loss": trial.parameters["x"] ** 2}, n_workers=2)
        best = await study.best
        assert best.metrics["loss"] == pytest.approx(best.parameters["x"] ** 2)
        assert (await study.status()).trials["completed"] == 6


def test_what_a_study_has_taught(client: Client) -> None:
    study = client.create_study(
        {"x": Float(-3, 3), "kind": Choice(["a", "b"]), "depth": Int(1, 9)},
        metric="loss",
        goal="minimize",
        budget=40,
        algorithm="quasi-random",
    )
    with pytest.raises(errors.FailedPrecondition, match="10 more trials"):
        study.importance()
    study.optimize(lambda trial: trial.parameters["x"] ** 2 + trial.parameters["depth"] / 9)
    found = study.importance()
    assert found.parameters[0].parameters == ("x",)
    assert found.parameters[0].low <= found.parameters[0].value <= found.parameters[0].high
    assert (found.metric, found.trials, len(found.interactions)) == ("loss", 40, 3)
    assert found.remark and found.r_squared > 0.3
    curve = study.dependence("depth", points=20)
    assert curve.axes == (("depth", tuple(range(1, 10))),)
    assert len(curve.mean) == len(curve.low) == len(curve.high) == 9
    assert study.dependence("kind", "x", points=3).axes[0] == ("kind", ("a", "b"))
    outlook = study.outlook(trials=10)
    assert outlook.best == study.best.metrics["loss"]
    assert outlook.best_trial == study.best.name
    assert (outlook.trials, outlook.further_trials) == (40, 10)
    assert outlook.helps is (outlook.advice != "STOP")
    assert outlook.expected_best_interval[0] <= outlook.expected_best_interval[1]
    assert "10 further trials" in outlook.verdict and outlook.evidence
    assert not study.outlook(tolerance=100.0).helps


def test_an_exception_fails_the_trial_and_not_the_program(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    study = client.create_study({"x": Float(0, 1)}, metric="loss", budget=3, algorithm="random")
    for trial in study.trials():
        with trial:
            if trial.number == 1:
                raise ZeroDivisionError("the batch was empty")
            if trial.number == 2:
                trial.infeasible("too large for this machine")
                continue
            trial.complete(loss=float("nan"))
    first, second, third = study.results(order_by="create_time")
    assert (first.state, first.reason) == ("FAILED", "ZeroDivisionError: the batch was empty")
    assert (second.state, second.reason) == ("INFEASIBLE", "too large for this machine")
    assert third.state == "FAILED" and "nan" in third.reason
    assert [r.exc_info is not None for r in caplog.records if r.levelno == logging.WARNING]
    with pytest.raises(errors.NotFound, match="no trial"):
        _ = study.best


def test_a_trial_without_an_outcome_is_not_handed_out_for_ever(client: Client) -> None:
    study = client.create_study({"x": Float(0, 1)}, metric="loss", budget=2, algorithm="random")
    assert [trial.number for trial in study.trials("forgetful")] == [1, 2]
    assert {t.state for t in study.results()} == {"FAILED"}
    assert "complete(...)" in study.results()[0].reason


def test_what_will_not_win_is_told_to_stop(client: Client) -> None:
    study = client.create_study(
        {"x": Choice([1.0, 0.9, 0.8, 0.1, 0.05, 0.01])},
        metric="accuracy",
        budget=6,
        algorithm="grid",
        pruning=Asha(min_steps=1, reduction_factor=2),
    )
    stopped = []
    for trial in study.trials():
        with trial:
            for step in range(1, 5):
                if not trial.report(step, accuracy=trial.parameters["x"] * step):
                    stopped.append(trial.number)
                    break
            trial.complete(accuracy=trial.parameters["x"] * 4)
    assert stopped
    pruned = study.results(filter="state = PRUNED")
    assert sorted(t.number for t in pruned) == stopped
    # The last report stands, not what the worker made of it.
    assert all(t.metrics["accuracy"] <= t.parameters["x"] * 3 for t in pruned)
    assert study.best.parameters["x"] == 1.0


def test_conditions_and_several_objectives(client: Client) -> None:
    study = client.create_study(
        {
            "optimizer": Choice(["sgd", "adam"]),
            "momentum": Float(0, 0.9, when={"optimizer": "sgd"}),
            "epochs": 20,
        },
        metric=[Metric("accuracy"), Metric("seconds", goal="minimize")],
        budget=10,
        algorithm="random",
        seed=1,
    )
    for trial in study.trials():
        assert ("momentum" in trial.parameters) == (trial.parameters["optimizer"] == "sgd")
        assert trial.parameters["epochs"] == 20
        trial.complete(accuracy=trial.number, seconds=trial.number)
    assert {t.number for t in study.optimal()} == set(range(1, 11))


def test_known_results_are_learnt_from_and_a_study_is_found_again(client: Client) -> None:
    study = client.create_study({"x": Float(0, 1)}, metric="loss", budget=5, name="found-again")
    assert study.add({"x": 0.5}, loss=0.25).source == "import"
    again = client.create_study(
        {"x": Float(0, 1)},
        metric="loss",
        budget=5,
        algorithm="random",
        name="found-again",
        exist_ok=True,
    )
    assert again.best.parameters == {"x": 0.5}
    with pytest.raises(errors.AlreadyExists):
        client.create_study({"x": Float(0, 1)}, metric="loss", budget=5, name="found-again")
    assert again.stop("enough").state == "STOPPED"
    assert list(again.trials()) == []
    again.delete()
    with pytest.raises(errors.NotFound):
        client.study("found-again")


def test_errors_name_the_field_and_the_way_out(client: Client) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        client.create_study({"x": Float(2, 1)}, metric="loss", budget=5)
    assert "min" in caught.value.field or "x" in caught.value.field
    assert caught.value.violations[0].fix
    with pytest.raises(errors.InvalidInput, match=r"space\.x"):
        client.create_study({"x": object()}, metric="loss", budget=5)  # type: ignore[dict-item]
    with pytest.raises(errors.NotFound):
        client.search.GetTrial(search_pb2.GetTrialRequest(name="studies/none/trials/1"))
