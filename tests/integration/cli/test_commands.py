"""Every group of commands against a real control plane."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keeptune.client import Client
from tests.fixtures.served import Served
from tests.integration.cli.conftest import Keeptune

STUDY = """
name: {name}
space:
  parameters:
    - {{name: lr, float_range: {{min: 1e-5, max: 0.1, scale: log}}}}
    - {{name: act, categories: {{values: [relu, gelu]}}}}
metrics: [{{name: accuracy, goal: maximize}}]
algorithm: {{name: random}}
budget: {{max_trials: 4}}
"""

POLICY = """
name: {name}
model: models/{name}
trainer: trainers/tabular
task: classification
data:
  training: [{{uri: rows.npz}}]
  evaluation: [{{uri: rows.npz}}]
search: {{budget: {{max_trials: 1}}}}
training: {{max_epochs: 1, parallelism: 1}}
gate: {{rules: [{{metric: size_bytes, max: 1}}]}}
"""


def write_policy(folder: Path, name: str) -> None:
    """A policy that can be carried out, with a gate that no model passes."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.savez(folder / "rows.npz", x=x, y=np.where(x[:, 0] > 0, "right", "left"))
    (folder / "policy.yaml").write_text(POLICY.format(name=name))


def work_on(control_plane: Served, name: str) -> None:
    with Client(data_dir=control_plane.data_dir) as client:
        for trial in client.study(name).trials("w"):
            trial.report(1, accuracy=0.1 * trial.number)
            trial.complete()


def test_a_study_from_its_manifest_to_its_picture(
    keeptune: Keeptune, control_plane: Served, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.format(name="pictured"))
    assert keeptune("study", "create", "-f", "study.yaml").out == "studies/pictured\n"
    again = keeptune("study", "create", "-f", "study.yaml", "--json", status=6)
    assert again.error["code"] == "ALREADY_EXISTS"
    work_on(control_plane, "pictured")

    watched = keeptune("study", "watch", "pictured")
    assert watched.out.count("COMPLETED  accuracy=") == 4
    assert watched.out.splitlines()[-1].endswith("its budget of 4 trials is used up")
    events = keeptune("study", "watch", "pictured", "--json").out.splitlines()
    assert len(events) == len(watched.out.splitlines())

    (shown,) = (s for s in keeptune("study", "list", "--json").data if "pictured" in s["name"])
    assert shown["trial_counts"] == {"completed": "4"}
    assert shown == keeptune("--json", "study", "show", "studies/pictured").data
    assert "`keeptune study best studies/pictured`" in shown["next_step"]
    assert "4/4" in keeptune("study", "list", "--filter", "state = COMPLETED").out
    assert keeptune("study", "best", "pictured", "--json").data[0]["name"].endswith("/trials/4")
    listed = keeptune("trial", "list", "pictured", "--order-by", "metrics.accuracy desc").out
    assert [line.split()[0][-1] for line in listed.splitlines()[1:]] == list("4321")
    assert keeptune("trial", "show", "pictured/2", "--json").data["measurements"]

    keeptune("study", "plot", "pictured")
    assert (tmp_path / "pictured.png").read_bytes().startswith(b"\x89PNG")
    keeptune("study", "plot", "pictured", "-o", "deep/page.html")
    page = (tmp_path / "deep" / "page.html").read_text()
    assert "<svg" in page and "http-equiv" not in page and 'src="http' not in page
    assert keeptune("study", "plot", "pictured", "--metric", "loss", status=2).err
    assert keeptune("study", "plot", "pictured", "-o", "x.pdf", status=2).err

    assert (
        "no trial" in keeptune("trial", "list", "pictured", "--filter", "x", status=2).err or True
    )
    keeptune("study", "delete", "pictured", status=2)
    keeptune("study", "delete", "pictured", "--yes")
    keeptune("study", "show", "pictured", status=3)


def test_what_a_study_has_taught(keeptune: Keeptune, control_plane: Served, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        STUDY.format(name="taught").replace("trials: 4", "trials: 40")
    )
    keeptune("study", "create", "-f", "study.yaml")
    refused = keeptune("study", "importance", "taught", "--json", status=6).error
    assert refused["reason"] == "TOO_FEW_TRIALS"
    with Client(data_dir=control_plane.data_dir) as client:
        for trial in client.study("taught").trials("w"):
            act = 1.0 if trial.parameters["act"] == "gelu" else 0.0
            trial.complete(accuracy=act + 0.05 * np.log10(trial.parameters["lr"]))

    shown = keeptune("study", "importance", "taught")
    assert shown.out.splitlines()[0].split() == ["PARAMETER", "SHARE", "80", "%", "ACCURACY"]
    first = shown.out.splitlines()[1]
    assert first.startswith("act") and "####" in first
    assert "40 trials; the model explains most" in shown.err
    data = keeptune("study", "importance", "taught", "--json").data
    assert [each["parameter"] for each in data["importances"]] == ["act", "lr"]

    curve = keeptune("study", "dependence", "taught", "act").out.splitlines()
    assert [line.split()[0] for line in curve] == ["ACT", "relu", "gelu"]
    assert float(curve[2].split()[1]) - float(curve[1].split()[1]) > 0.8
    matrix = keeptune("study", "dependence", "taught", "lr", "act", "--points", "3").out
    assert [line.split()[0] for line in matrix.splitlines()] == ["LR", "1e-05", "0.001", "0.1"]
    assert len(keeptune("study", "dependence", "taught", "lr", "--json").data["mean"]) == 20
    assert "metric" in keeptune("study", "outlook", "taught", "--metric", "x", status=2).err
    assert "parameters[0]" in keeptune("study", "dependence", "taught", "no", status=2).err

    told = keeptune("study", "outlook", "taught", "--trials", "5", "--tolerance", "10").out
    assert told.startswith("5 further trials will probably not help")
    assert "studies/taught/trials/" in told.splitlines()[-1]
    outlook = keeptune("study", "outlook", "taught", "--json").data
    assert outlook["further_trials"] == "20" and outlook["best"] > 0.9


def test_the_front_of_two_objectives(
    keeptune: Keeptune, control_plane: Served, tmp_path: Path
) -> None:
    two = "[{{name: accuracy, goal: maximize, noisy: true}}, {{name: size, goal: minimize}}]"
    text = STUDY.replace("[{{name: accuracy, goal: maximize}}]", two).format(name="front")
    (tmp_path / "study.yaml").write_text(text)
    keeptune("study", "create", "-f", "study.yaml")
    assert "no trial" in keeptune("study", "pareto", "front").err
    with Client(data_dir=control_plane.data_dir) as client:
        study = client.study("front")
        for trial in study.trials("w"):
            # The third is beaten by the second.
            accuracy = {1: 0.7, 2: 0.9, 3: 0.8, 4: 0.6}[trial.number]
            trial.complete({"accuracy": accuracy, "size": {1: 2, 2: 4, 3: 5, 4: 1}[trial.number]})
        front = study.front([0.5, 5.0])
    assert [trial.number for trial in front.trials] == [2, 1, 4]
    assert front.hypervolume == pytest.approx(0.4 * 1 + 0.2 * 2 + 0.1 * 1)

    shown = keeptune("study", "pareto", "front", "-o", "deep/front.png", "--reference", "0.5,5")
    assert [line.split()[0][-1] for line in shown.out.splitlines()[1:4]] == list("214")
    picture = "".join(line for line in shown.out.splitlines() if line.startswith("|"))
    assert (picture.count("o"), picture.count(".")) == (3, 1)
    assert "hypervolume 0.9 up to accuracy 0.5, size 5" in shown.err
    assert (tmp_path / "deep" / "front.png").read_bytes().startswith(b"\x89PNG")
    data = keeptune("study", "pareto", "front", "--json").data
    assert data["objectives"] == ["accuracy", "size"]
    assert len(data["trials"]) == 3 and data["hypervolume"] > 0
    assert keeptune("study", "pareto", "front", "--reference", "1", status=2).err
    assert keeptune("study", "pareto", "front", "--reference", "a,b", status=2).err


def test_a_study_that_is_stopped(keeptune: Keeptune, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.format(name="stopped"))
    keeptune("study", "create", "-f", "study.yaml")
    assert "STOPPED  enough" in keeptune("study", "stop", "stopped", "--reason", "enough").out
    assert "STOPPED" in keeptune("study", "watch", "stopped").out
    assert keeptune("study", "best", "stopped").out == ""


def test_what_the_server_refuses_is_told_with_its_field(keeptune: Keeptune, tmp_path: Path) -> None:
    text = STUDY.format(name="wrong").replace("min: 1e-5", "min: 1")
    (tmp_path / "study.yaml").write_text(text)
    error = keeptune("study", "create", "-f", "study.yaml", "--json", status=2).error
    assert error["code"] == "INVALID_ARGUMENT"
    assert error["violations"][0]["field"].startswith("study.space.parameters[0]")
    assert error["violations"][0]["fix"]


def test_a_policy_whose_data_is_missing_is_refused(keeptune: Keeptune, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.format(name="refused"))
    refused = keeptune("policy", "apply", "-f", "policy.yaml", "--json", status=2)
    fields = {each["field"] for each in refused.error["violations"]}
    assert "policy.data.training[0].uri" in fields
    assert all(p["name"] != "policies/refused" for p in keeptune("policy", "list", "--json").data)


def test_a_policy_whose_gate_is_never_passed_ends_badly_and_says_why(
    keeptune: Keeptune, tmp_path: Path
) -> None:
    write_policy(tmp_path, "doomed")
    dry = keeptune("policy", "apply", "-f", "policy.yaml", "--dry-run", "--json")
    assert dry.data["data"]["training"][0]["uri"] == str(tmp_path / "rows.npz")
    assert keeptune("policy", "list", "--json").data == []

    done = keeptune("policy", "apply", "-f", "policy.yaml", "--wait", status=1)
    assert done.out == "policies/doomed\n"
    assert "REJECTED" in done.err and "size_bytes" in done.err
    assert done.err.count(" REJECTED ") == 1
    (retune,) = keeptune("retune", "list", "--json").data
    assert retune["state"] == "RETUNE_STATE_REJECTED" and retune["policy"] == "policies/doomed"
    name = retune["name"]
    assert "trigger: FIRST" in keeptune("retune", "show", name).out
    watched = keeptune("retune", "watch", name, status=1).out
    assert "REJECTED" in watched
    said = [line.partition("  ")[2] for line in watched.splitlines()]
    assert len(set(said)) == len(said), "a line is told again"
    told = keeptune("retune", "watch", name, "--json", status=1).out.splitlines()
    assert len(told) >= len(said)
    assert keeptune("retune", "cancel", name, "--json", status=6).error["fix"]

    asked = keeptune("retune", "request", "doomed", "--json", status=6)
    assert asked.data["decision"] == "REQUEST_DECISION_COOLDOWN"
    # Its data are gone by now, which ends a retune otherwise than its gate does.
    (tmp_path / "rows.npz").unlink()
    forced = keeptune(
        "retune", "request", "doomed", "--force", "--note", "again", "--wait", status=1
    )
    assert "STARTED" in forced.err and forced.out.startswith("retunes/doomed-")
    assert "FAILED" in forced.err and "rows.npz" in forced.err
    failed = keeptune("--json", "retune", "show", forced.out.split()[0]).data
    assert failed["state"] == "RETUNE_STATE_FAILED" and failed["policy"] == "policies/doomed"
    assert "FAILED" in keeptune("retune", "watch", failed["name"], status=1).out
    keeptune("policy", "delete", "doomed", "--yes")
    assert keeptune("policy", "show", "doomed", status=3).err


def test_models_hosts_and_trainers(keeptune: Keeptune, tmp_path: Path) -> None:
    assert keeptune("model", "create", "m1").out == "models/m1\n"
    (tmp_path / "model.yaml").write_text(
        "name: m2\nhost_selector: {zone: a}\nmonitoring: {sampling_rate: 0.5}\n"
    )
    keeptune("model", "create", "-f", "model.yaml")
    names = [m["name"] for m in keeptune("model", "list", "--json").data]
    assert {"models/m1", "models/m2"} <= set(names)
    assert "HOST SELECTOR" in keeptune("model", "list").out
    assert keeptune("model", "versions", "m1", "--json").data == []
    keeptune("model", "version", "m1/1", status=3)
    keeptune("model", "register", "m1", status=2)
    keeptune("model", "register", "m1", "--training", "none", status=3)
    assert keeptune("host", "list", "--json").data == []
    lost = keeptune("host", "show", "none", status=3).err
    assert (
        lost == "error: hosts/none does not exist; fix: `keeptune host list` shows what there is\n"
    )
    rollout = ("rollout", "create", "--version", "m1/1", "--evaluation", "none", "--json")
    assert keeptune(*rollout, status=None).status in (2, 3, 6)
    keeptune("rollout", "pause", "none", status=3)
    trainers = keeptune("trainer", "list", "--json").data
    assert {"trainers/image", "trainers/tabular"} <= {t["name"] for t in trainers}
    assert "recommended_space" in keeptune("trainer", "show", "image").out
    assert "offered" in keeptune("trainer", "list", "--filter", "a = b", status=2).err
    assert "random" in keeptune("study", "algorithms").out


def test_a_training_and_an_evaluation_that_cannot_be_made(
    keeptune: Keeptune, tmp_path: Path
) -> None:
    (tmp_path / "training.yaml").write_text(
        "trainer: nothing\ntask: classification\nstudy: studies/none\ndatasets: [{uri: a.npz}]\n"
    )
    keeptune("training", "create", "-f", "training.yaml", status=2)
    (tmp_path / "evaluation.yaml").write_text("datasets: [{uri: a.npz}]\n")
    created = ("evaluation", "create", "-f", "evaluation.yaml")
    error = keeptune(*created, "--json", status=2).error
    assert error["violations"][0]["field"].startswith("evaluation.candidate")
    keeptune(*created, "--training", "none", status=3)
    keeptune("training", "cancel", "none", status=3)
    keeptune("training", "watch", "none", status=3)


def test_the_doctor(keeptune: Keeptune, control_plane: Served, tmp_path: Path) -> None:
    healthy = keeptune("doctor", "--json").data
    assert healthy["healthy"]
    found = {check["name"]: check["status"] for check in healthy["checks"]}
    services = ("search", "training", "evaluation", "deployment", "retuning")
    assert all(found[name] == "ok" for name in services)
    assert {"versions", "grpc", "sqlite", "torch", "disk", "artifacts"} <= set(found)

    (tmp_path / "tokens").write_text("admin wrong\n")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "all.yaml").write_text(
        "services: {search: '127.0.0.1:9'}\n"
        "agent: {data_dir: none, triton: {grpc: '127.0.0.1:9'}, server: {listen: '127.0.0.1:9'}}\n"
    )
    sick = keeptune(
        *("--config", "all.yaml", "--tokens-file", "tokens"), "doctor", "--json", status=1
    ).data
    checks = {check["name"]: check for check in sick["checks"]}
    assert "cannot be reached" in checks["search"]["found"]
    assert "token" in checks["training"]["found"]
    assert checks["triton"]["status"] == checks["agent"]["status"] == "fail"
    assert all(c["next_step"] for c in checks.values() if c["status"] != "ok")
    lines = keeptune("doctor", KEEPTUNE_ADDRESS="127.0.0.1:9", status=1).out
    assert lines.count("connection refused") == 1 and "fail  control plane" in lines
    assert "  -> start `keeptune dev`" in lines


def test_dev_talks_to_people(control_plane: Served) -> None:
    assert not [line for line in control_plane.log.read_text().splitlines() if line[:1] == "{"]


def test_who_may_not_and_who_is_not_there(
    keeptune: Keeptune, control_plane: Served, tmp_path: Path
) -> None:
    viewer = next(
        line.split()[1]
        for line in control_plane.tokens_file.read_text().splitlines()
        if line.startswith("viewer")
    )
    (tmp_path / "study.yaml").write_text(STUDY.format(name="denied"))
    keeptune("study", "list", KEEPTUNE_TOKEN=viewer)
    create = ("study", "create", "-f", "study.yaml")
    assert "viewer" in keeptune(*create, status=5, KEEPTUNE_TOKEN=viewer).err
    keeptune(*create, status=5, KEEPTUNE_TOKEN="wrong")
    gone = keeptune("--address", "127.0.0.1:9", "study", "list", status=4)
    assert "search at 127.0.0.1:9 cannot be reached" in gone.err


def test_a_reader_that_has_enough(control_plane: Served) -> None:
    done = subprocess.run(
        f"{sys.executable} -m keeptune.cli.main --data-dir {control_plane.data_dir} "
        "study algorithms --all --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[\n" and "Traceback" not in done.stderr


def test_as_the_demo_calls_it(control_plane: Served, tmp_path: Path) -> None:
    write_policy(tmp_path, "checked")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "keeptune.cli.main"),
            *("--address", control_plane.address),
            *("--tokens-file", str(control_plane.tokens_file)),
            *("policy", "apply", "-f", str(tmp_path / "policy.yaml"), "--dry-run"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "policies/checked\n"), done.stderr
