"""Results from elsewhere, on a real search service; Optuna's from a database it made itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from keeptune.client import Choice, Client, Float, Int, errors
from keeptune.client.imports import adding
from tests.fixtures.served import Served

optuna.logging.set_verbosity(optuna.logging.ERROR)


def keeptune(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keeptune.cli.main", "--address", served.address]
    command += ["--tokens-file", str(served.tokens_file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ["sgd", "adam"])
    momentum = trial.suggest_float("momentum", 0.0, 0.9) if kind == "sgd" else 0.5
    return (rate - 0.1) ** 2 + momentum


def test_an_optuna_database_becomes_a_study(search_server: Served, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    sampler = optuna.samplers.RandomSampler(seed=1)
    theirs = optuna.create_study(storage=storage, study_name="Move me", sampler=sampler)
    theirs.optimize(objective, n_trials=12)
    arguments = ("study", "import", "--from", "optuna", "--storage", storage)
    arguments += ("--study-name", "Move me", "--metric", "loss", "--budget", "5")
    done = keeptune(search_server, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "studies/move-me"
    assert "12 trials added" in done.stderr
    assert "assumed that momentum exists while kind is sgd" in done.stderr
    # Meanwhile others go on with it; what is new comes after what is there.
    theirs.optimize(objective, n_trials=3)
    again = keeptune(search_server, *arguments)
    assert "3 trials added, 12 were there already" in again.stderr
    with Client(search_server.address, tokens_file=search_server.tokens_file) as client:
        study = client.study("move-me")
        assert study.best.metrics["loss"] == pytest.approx(theirs.best_value)
        study.optimize(lambda trial: trial.parameters.get("momentum", 0.5), n_workers=1)
        assert study.status().trials["completed"] == 20


def test_a_table_goes_out_and_in_again(
    client: Client, search_server: Served, tmp_path: Path
) -> None:
    space = {"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}
    study = client.create_study(space, metric="loss", goal="minimize", budget=9, name="table-out")
    study.optimize(lambda trial: trial.parameters["x"])
    table = tmp_path / "out.csv"
    done = keeptune(search_server, "study", "export", "table-out", "--csv", "-o", str(table))
    assert done.returncode == 0, done.stderr
    client.create_study(space, metric="loss", goal="minimize", budget=9, name="table-in")
    imported = client.import_csv(table, into="table-in")
    assert (imported.added, imported.present) == (9, 0)
    assert client.import_csv(table, into="table-in").added == 0
    ours, others = (
        [(t.parameters, t.metrics) for t in client.study(name).results()]
        for name in ("table-out", "table-in")
    )
    assert ours == others


def test_a_study_and_its_results_from_two_files(search_server: Served, tmp_path: Path) -> None:
    manifest = tmp_path / "study.yaml"
    manifest.write_text(
        "name: from-files\n"
        "space: {parameters: [{name: x, float_range: {min: 0, max: 1}}]}\n"
        "metrics: [{name: loss, goal: minimize}]\n"
        "budget: {max_trials: 3}\n"
    )
    table = tmp_path / "results.csv"
    table.write_text("x,loss\n0.5,1\n0.25,2\n7,3\n")
    arguments = ("study", "import", str(table), "-f", str(manifest))
    wrong = keeptune(search_server, *arguments)
    assert wrong.returncode == 2
    assert 'results.csv line 4, parameters["x"] is 7.0' in wrong.stderr
    table.write_text("x,loss\n0.5,1\n0.25,2\n")
    right = keeptune(search_server, *arguments)
    assert right.returncode == 0, right.stderr
    assert "2 trials added" in right.stderr
    manifest.write_text(manifest.read_text().replace("max: 1", "max: 2"))
    other = keeptune(search_server, *arguments)
    assert "exists, with another space or other metrics" in other.stderr
    assert other.returncode == 6


def test_an_interrupted_import_goes_on(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many rows are equal, and chunks with them."""
    study = client.create_study(
        {"x": Float(0.0, 1.0)}, metric="loss", goal="minimize", budget=3, name="interrupted"
    )
    table = tmp_path / "results.csv"
    table.write_text("x,loss\n" + "0.5,1\n" * 25 + "0.25,2\n" + "9,9\n")
    monkeypatch.setattr(adding, "_CHUNK", 10)
    with pytest.raises(errors.InvalidInput, match="line 28"):
        client.import_csv(table, into="interrupted")
    assert len(study.results()) == 20
    table.write_text("x,loss\n" + "0.5,1\n" * 35 + "0.25,2\n")
    done = client.import_csv(table, into="interrupted")
    assert (done.added, done.present) == (16, 20)
    assert len(study.results()) == 36


def test_the_same_name_again_is_another_study(client: Client, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text("x,loss\n0.5,1\n")
    for _ in range(2):
        study = client.create_study(
            {"x": Float(0.0, 1.0)}, metric="loss", goal="minimize", budget=3, name="twice"
        )
        assert client.import_csv(table, into="twice").added == 1
        assert study.results()[0].source == "import"
        study.delete()


def test_the_code_of_the_page(search_server: Served, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "imports.md").read_text()
    (code,) = re.findall(r"```python\n(# move.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "move.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "move.py"],
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
    assert done.stdout.startswith("studies/moved 20")


def test_the_table_of_the_page(client: Client, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "imports.md").read_text()
    (table,) = re.findall(r"```csv\n(.*?)```", page, re.DOTALL)
    (tmp_path / "results.csv").write_text(table)
    space = {
        "rate": Float(1e-4, 1.0, log=True),
        "layers": Int(1, 4),
        "optimizer": Choice(["sgd", "adam"]),
        "momentum": Float(0.0, 1.0, when={"optimizer": "sgd"}),
    }
    study = client.create_study(space, metric="accuracy", budget=3)
    assert client.import_csv(tmp_path / "results.csv", into=study.id).added == 2
    assert study.best.metrics["accuracy"] == 0.95
