"""YAML to messages: what is forgiven, and how what is wrong is named."""

from pathlib import Path

import pytest
import yaml

from keeptune.client.errors import InvalidInput
from keeptune.client.manifest import load, take_id
from keeptune.v1 import retuning_pb2, search_pb2, training_pb2, types_pb2

ROOT = Path(__file__).parents[3]

GOOD = """
name: digits
model: models/digits
trainer: trainers/image
task: classification
data:
  training: [{uri: train.npz}, {uri: "s3://bucket/more.npz"}, {uri: /data/more.npz}]
  evaluation:
    - uri: ../held-out/test.npz
      display_name: original
search:
  budget: {max_trials: 20, max_duration: 1.5h}
  pruning: {asha: }
  space:
    parameters:
      - name: learning_rate
        float_range: {min: 1e-5, max: 1e-1, scale: log}
      - name: width
        categories: {values: [32, 64.5, wide, true]}
gate:
  rules: [{metric: accuracy, min: 1}]
cooldown: 10m
rollout: {bake: 5, stage_timeout: 250ms}
labels: {team: vision, year: 2026}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_the_short_forms(tmp_path: Path) -> None:
    policy = load(written(tmp_path, GOOD), retuning_pb2.Policy)
    assert policy.task == types_pb2.TASK_CLASSIFICATION
    assert [d.uri for d in policy.data.training] == [
        str(tmp_path / "train.npz"),
        "s3://bucket/more.npz",
        "/data/more.npz",
    ]
    assert Path(policy.data.evaluation[0].uri) == tmp_path / "../held-out/test.npz"
    assert policy.search.budget.max_duration.seconds == 5400
    assert policy.search.pruning.WhichOneof("rule") == "asha"
    rate, width = policy.search.space.parameters
    assert rate.float_range.min == 1e-5 and rate.float_range.scale == types_pb2.SCALE_LOG
    assert [v.WhichOneof("value") for v in width.categories.values] == [
        "int_value",
        "double_value",
        "string_value",
        "bool_value",
    ]
    assert policy.gate.rules[0].min == 1.0
    assert (policy.cooldown.seconds, policy.rollout.bake.seconds) == (600, 5)
    assert policy.rollout.stage_timeout.nanos == 250_000_000
    assert dict(policy.labels) == {"team": "vision", "year": "2026"}
    assert take_id(policy, "policies") == "digits" and not policy.name


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("name: a\ntrianer: b\n", "trianer", 2, "did you mean trainer"),
        ("search:\n  budget:\n    max_trial: 3\n", "search.budget.max_trial", 3, "max_trials"),
        ("task: clasification\n", "task", 1, "classification, regression"),
        ("task: unspecified\n", "task", 1, "classification"),
        ("cooldown: soon\n", "cooldown", 1, "30s"),
        ("cooldown: -5s\n", "cooldown", 1, "30s"),
        ("require_approval: yes please\n", "require_approval", 1, "true or false"),
        ("data: train.npz\n", "data", 1, "mapping"),
        ("data:\n  training: {uri: a}\n", "data.training", 2, "list"),
        ("search: {budget: {max_trials: many}}\n", "search.budget.max_trials", 1, "number"),
        ("search: {budget: {max_trials: 1.5}}\n", "search.budget.max_trials", 1, "whole"),
        (
            "data:\n  training:\n    - uri: a\n    - {uri: b, formt: npz}\n",
            "data.training[1].formt",
            4,
            "format",
        ),
        ("labels: [a]\n", "labels", 1, "mapping"),
        ("name: a\nname: b\n", "name", 2, "twice"),
        ("display_name: x\n", "display_name", 1, "use name, model"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_way_out(
    tmp_path: Path, text: str, field: str, line: int, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(written(tmp_path, text), retuning_pb2.Policy)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert f"(policy.yaml, line {line})" in violation.problem
    assert words in str(violation)
    assert caught.value.reason == "INVALID_MANIFEST"


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(written(tmp_path, "task: x\ncooldown: y\nfoo: z\n"), retuning_pb2.Policy)
    assert [v.field for v in caught.value.violations] == ["task", "cooldown", "foo"]


@pytest.mark.parametrize("text", ["- a\n", "", "a: [", "a: !!python/object:os.system {}\n"])
def test_what_is_no_manifest_at_all(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"policy\.yaml"):
        load(written(tmp_path, text), retuning_pb2.Policy)


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path / "none.yaml", retuning_pb2.Policy)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"is not YAML.*policy\.yaml"):
        load(tmp_path / "binary.yaml", retuning_pb2.Policy)


def test_numbers_that_do_not_fit_their_field(tmp_path: Path) -> None:
    path = written(tmp_path, "parallelism: 99999999999\n")
    with pytest.raises(InvalidInput):
        load(path, training_pb2.Training)


def test_a_mapping_does_as_well_as_a_file() -> None:
    study = load(
        {"metrics": [{"name": "loss", "goal": "minimize"}], "lease_duration": "5s"},
        search_pb2.Study,
    )
    assert study.metrics[0].goal == types_pb2.GOAL_MINIMIZE
    assert study.lease_duration.seconds == 5


def test_the_policy_of_the_readme(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    _, _, rest = text.partition("# policy.yaml\n")
    block = rest.partition("```")[0]
    policy = load(written(tmp_path, block), retuning_pb2.Policy)
    assert policy.monitoring.capture.enabled and policy.gate.rules[1].require_improvement
    assert set(yaml.safe_load(block)) <= set(policy.DESCRIPTOR.fields_by_name)
