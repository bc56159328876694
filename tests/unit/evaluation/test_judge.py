"""Judging, in this process: real models under ONNX Runtime on real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.evaluation.contestant import fit_shape
from keeptune.evaluation.job import Job
from keeptune.evaluation.judge import judge
from keeptune.evaluation.latency import batch, measure, summarize
from keeptune.evaluation.metrics import by_name
from keeptune.evaluation.model import Judgement
from keeptune.evaluation.onnx_model import read_model
from keeptune.runtime import channels, documents
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import evaluation_pb2, types_pb2
from tests.fixtures import judged_models as models

CLASSES = ["left", "right"]
RIGHT_WAY = np.array([[-4.0, 4.0], [0.0, 0.0]], np.float32)
# Looks at the second feature too, which says nothing.
NOISY = np.array([[-2.0, 2.0], [-3.0, 3.0]], np.float32)


def rows(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    return x, np.where(x[:, 0] > 0, "right", "left")


def data(path: Path, name: str = "d", **arrays: Any) -> types_pb2.Dataset:
    x, y = rows()
    slices = {k: v for k, v in arrays.items() if k not in ("x", "y")}
    np.savez(path / f"{name}.npz", **{"x": x, "y": y, **arrays})
    return types_pb2.Dataset(uri=str(path / f"{name}.npz"), slice_columns=list(slices))


def job(
    folder: Path,
    candidate: bytes,
    *datasets: types_pb2.Dataset,
    champion: bytes | None = None,
    profile: types_pb2.Dataset | None = None,
) -> Job:
    (folder / "candidate.onnx").write_bytes(candidate)
    if champion is not None:
        (folder / "champion.onnx").write_bytes(champion)
    return Job(
        candidate="candidate.onnx",
        champion="champion.onnx" if champion is not None else None,
        signature=read_model(candidate, field="f").signature,
        datasets=datasets,
        profile_dataset=profile,
        confidence=0.95,
        latency_batch_size=4,
        latency_seconds=0.0,
        memory_bytes=1 << 33,
    )


def run(folder: Path, *args: Any, **kwargs: Any) -> Judgement:
    return judge(job(folder, *args, **kwargs), folder)


def test_candidate_and_champion_overall_and_by_slice(tmp_path: Path) -> None:
    day = np.where(np.arange(300) < 200, "mon", "tue")
    candidate = models.classifier(RIGHT_WAY, CLASSES)
    champion = models.classifier(NOISY[:, ::-1].copy() * -1, CLASSES)
    found = run(tmp_path, candidate, data(tmp_path, day=day), champion=champion)
    (result,) = found.results
    assert (result.dataset, result.rows) == ("d", 300)
    assert by_name(result.candidate.metrics)["accuracy"].value == 1.0
    x, y = rows()
    wrong = (x @ NOISY)[:, 1] > 0
    expected = float((np.where(wrong, "right", "left") == y).mean())
    assert result.champion is not None
    assert by_name(result.champion.metrics)["accuracy"].value == pytest.approx(expected)
    assert [t.metric for t in result.comparisons] == ["accuracy", "log_loss"]
    assert result.comparisons[0].difference == pytest.approx(1 - expected)
    assert [(s.slice, s.rows) for s in result.candidate.slices] == [
        ("day=mon", 200),
        ("day=tue", 100),
    ]
    assert result.candidate.slices[0].comparisons[0].champion_only_right == 0
    assert found.candidate_latency.size_bytes == len(candidate)
    assert found.candidate_latency.batch_size == 4
    assert found.champion_latency is not None
    assert found.champion_latency.p99_ms >= found.champion_latency.p50_ms > 0


def test_models_that_order_their_classes_differently_are_compared_by_label(
    tmp_path: Path,
) -> None:
    candidate = models.classifier(RIGHT_WAY, CLASSES)
    champion = models.classifier(RIGHT_WAY[:, ::-1].copy(), CLASSES[::-1])
    (result,) = run(tmp_path, candidate, data(tmp_path), champion=champion).results
    assert result.champion is not None
    assert result.champion.metrics == result.candidate.metrics
    assert result.comparisons[0].p_value == 1.0


def test_the_result_is_the_same_every_time_apart_from_latency(tmp_path: Path) -> None:
    candidate, champion = (models.classifier(w, CLASSES) for w in (RIGHT_WAY, NOISY))
    first, second = (run(tmp_path, candidate, data(tmp_path), champion=champion) for _ in range(2))
    assert first.results == second.results
    assert first.profile == second.profile


def test_a_judgement_survives_its_way_to_disk(tmp_path: Path) -> None:
    found = run(tmp_path, models.classifier(RIGHT_WAY, CLASSES), data(tmp_path))
    assert documents.decode(documents.encode(found, Judgement), Judgement) == found


def test_regression(tmp_path: Path) -> None:
    x, _ = rows()
    dataset = data(tmp_path, y=(2 * x[:, 0]).astype(np.float64))
    found = run(
        tmp_path, models.regressor([2.0, 0.0]), dataset, champion=models.regressor([2.0, 1.0])
    )
    (result,) = found.results
    assert by_name(result.candidate.metrics)["rmse"].value == pytest.approx(0, abs=1e-5)
    assert result.comparisons[0].metric == "rmse"
    assert result.comparisons[0].upper < 0
    profile = evaluation_pb2.ReferenceProfile.FromString(found.profile)
    assert [c.channel for c in profile.channels] == ["input.0", "input.1", "output.value"]


def test_the_profile_is_what_the_agent_would_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = rng.random((120, 6, 6)).astype(np.float32)
    weights = rng.normal(size=(36, 2)).astype(np.float32)
    candidate = models.classifier(weights, CLASSES, image=[1, 6, 6])
    labels = np.array(["left", "right"] * 60)
    other = data(tmp_path, "other", x=images[:60], y=labels[:60])
    profiled = data(tmp_path, "profiled", x=images, y=labels)
    found = run(tmp_path, candidate, other, profile=profiled)
    profile = evaluation_pb2.ReferenceProfile.FromString(found.profile)
    assert profile.rows == 120
    assert list(profile.classes) == CLASSES
    model = read_model(candidate, field="f")
    logits = images.reshape(120, 36) @ weights
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = channels.channels(
        model.signature, {"image": images[:, None]}, {"probabilities": probabilities}
    )
    assert [c.channel for c in profile.channels] == list(expected)
    for channel in profile.channels:
        values = expected[channel.channel]
        if channel.categories:
            counts = channels.category_histogram(values, list(channel.categories))
        else:
            counts = channels.histogram(values, np.array(channel.edges))
        assert list(channel.counts) == counts.tolist()
    assert profile.accuracy == pytest.approx((expected["output.class"] == labels).mean())
    assert profile.mean_confidence == pytest.approx(expected["output.confidence"].mean(), rel=1e-5)


def test_nan_outputs_are_a_problem_and_not_a_number(tmp_path: Path) -> None:
    broken = models.classifier(RIGHT_WAY, CLASSES, tail=models.nan_tail())
    found = run(tmp_path, broken, data(tmp_path))
    lost = int((rows()[1] == "left").sum())
    assert found.problems == (
        f"the candidate's output is NaN or infinite in {lost} of 300 rows of d",
    )
    assert found.results[0].candidate.metrics == ()
    assert found.profile == b""


def failing(folder: Path, *args: Any, **kwargs: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        run(folder, *args, **kwargs)
    return caught.value


def test_a_champion_with_nan_outputs_cannot_be_compared_with(tmp_path: Path) -> None:
    broken = models.classifier(RIGHT_WAY, CLASSES, tail=models.nan_tail())
    error = failing(
        tmp_path, models.classifier(RIGHT_WAY, CLASSES), data(tmp_path), champion=broken
    )
    assert error.field == "evaluation.champion"
    assert "NaN" in error.message


def test_rows_of_the_wrong_shape(tmp_path: Path) -> None:
    dataset = data(tmp_path, x=np.zeros((300, 3), np.float32))
    error = failing(tmp_path, models.classifier(RIGHT_WAY, CLASSES), dataset)
    assert error.field == "evaluation.datasets[0]"
    assert "rows of shape [3], but the candidate takes [2]" in error.message


def test_labels_of_another_kind(tmp_path: Path) -> None:
    dataset = data(tmp_path, y=np.arange(300) % 2)
    error = failing(tmp_path, models.classifier(RIGHT_WAY, CLASSES), dataset)
    assert error.field == "evaluation.datasets[0].target_column"
    assert "(0, 1), none of which is a class of the candidate (left, right)" in error.message


def test_a_new_class_counts_as_wrong(tmp_path: Path) -> None:
    _, y = rows()
    labels = y.astype("<U8")
    labels[:30] = "straight"
    (result,) = run(
        tmp_path, models.classifier(RIGHT_WAY, CLASSES), data(tmp_path, y=labels)
    ).results
    assert by_name(result.candidate.metrics)["accuracy"].value == pytest.approx(0.9)


def test_logits_are_no_probabilities(tmp_path: Path) -> None:
    tail = [models.helper.make_node("Identity", ["logits"], ["probabilities"])]
    error = failing(tmp_path, models.classifier(RIGHT_WAY, CLASSES, tail=tail), data(tmp_path))
    assert error.field == "evaluation.candidate"
    assert "put the softmax inside" in error.fix


def test_a_model_that_wants_too_much_memory(tmp_path: Path) -> None:
    greedy = models.classifier(RIGHT_WAY, CLASSES, tail=models.greedy_tail())
    error = failing(tmp_path, greedy, data(tmp_path))
    assert "fails on the data" in error.message


def test_too_many_slices(tmp_path: Path) -> None:
    dataset = data(tmp_path, row=np.arange(300))
    error = failing(tmp_path, models.classifier(RIGHT_WAY, CLASSES), dataset)
    assert error.field == "evaluation.datasets[0].slice_columns"
    assert "'row' has 300" in error.message


def test_csv_columns_come_in_the_models_order(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("other,b,a,side\n9,0,1,right\n9,5,-1,left\n9,7,2,right\n")
    model = models.classifier(RIGHT_WAY, CLASSES, feature_names=["a", "b"])
    found = run(tmp_path, model, types_pb2.Dataset(uri=str(path), target_column="side"))
    assert by_name(found.results[0].candidate.metrics)["accuracy"].value == 1.0
    profile = evaluation_pb2.ReferenceProfile.FromString(found.profile)
    assert [c.channel for c in profile.channels][:2] == ["input.a", "input.b"]


def test_models_with_an_input_for_each_column(tmp_path: Path) -> None:
    def node(kind: str, takes: list[str], gives: str) -> models.onnx.NodeProto:
        return models.helper.make_node(kind, takes, [gives])

    spec = types_pb2.TensorSpec(name="value", data_type=models.FLOAT32, shape=[1])
    signature = types_pb2.ModelSignature(task=types_pb2.TASK_REGRESSION, outputs=[spec])
    for name in ("a", "b"):
        signature.inputs.add(name=name, data_type=models.FLOAT32, shape=[1])
    model = models.build(
        [node("Sub", ["a", "b"], "value")],
        inputs={"a": [1], "b": [1]},
        outputs={"value": [1]},
        signature=signature,
    )
    path = tmp_path / "d.csv"
    path.write_text("b,a,t\n1,5,4\n2,3,1\n")
    dataset = types_pb2.Dataset(uri=str(path), target_column="t")
    found = run(tmp_path, model, dataset)
    assert by_name(found.results[0].candidate.metrics)["rmse"].value == 0.0
    path.write_text("b,c,t\n1,5,4\n2,3,1\n")
    error = failing(tmp_path, model, dataset)
    assert "no column for the candidate's input 'a'" in error.message


@pytest.mark.parametrize(
    ("shape", "wanted", "fitted"),
    [
        ((8, 8), (1, 8, 8), (1, 8, 8)),
        ((1, 8, 8), (8, 8), (8, 8)),
        ((3, 8, 9), (-1, -1, -1), (3, 8, 9)),
        ((1,), (), ()),
        ((1,), (-1,), (1,)),
        ((64,), (1, 8, 8), None),
        ((8, 8), (8,), None),
        ((8, 9), (9, 8), None),
    ],
)
def test_fit_shape(
    shape: tuple[int, ...], wanted: tuple[int, ...], fitted: tuple[int, ...] | None
) -> None:
    assert fit_shape(shape, wanted) == fitted


def test_latency_of_known_times() -> None:
    now = [0]

    def call(ms: int) -> Any:
        return lambda: now.__setitem__(0, now[0] + ms * 1_000_000)

    one, other = measure([call(2), call(5)], seconds=0.7, now_ns=lambda: now[0])
    assert set(one) == {2.0}
    assert set(other) == {5.0}
    assert len(one) == len(other) == 100
    found = summarize([float(i) for i in range(1, 102)], batch_size=3, size_bytes=9)
    assert (found.p50_ms, found.p99_ms, found.runs) == (51.0, 100.0, 101)


def test_a_batch_larger_than_the_data() -> None:
    found = batch({"x": np.array([[1], [2]])}, 5)["x"]
    assert found.ravel().tolist() == [1, 2, 1, 2, 1]


def test_jobs_survive_their_way_to_disk(tmp_path: Path) -> None:
    made = job(tmp_path, models.classifier(RIGHT_WAY, CLASSES), data(tmp_path))
    made = replace(made, profile_dataset=made.datasets[0])
    assert documents.decode(documents.encode(made, Job), Job) == made
