"""Channels and their histograms: known values, and properties of the bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.runtime import channels as ch
from keeptune.v1 import types_pb2

FLOAT = types_pb2.DATA_TYPE_FLOAT32


def image_signature(*shape: int) -> types_pb2.ModelSignature:
    return types_pb2.ModelSignature(
        task=types_pb2.TASK_CLASSIFICATION,
        inputs=[types_pb2.TensorSpec(name="image", data_type=FLOAT, shape=shape)],
        outputs=[types_pb2.TensorSpec(name="probabilities", data_type=FLOAT, shape=[2])],
        classes=["cat", "dog"],
    )


def vector_signature(size: int) -> types_pb2.ModelSignature:
    return types_pb2.ModelSignature(
        task=types_pb2.TASK_REGRESSION,
        inputs=[types_pb2.TensorSpec(name="features", data_type=FLOAT, shape=[size])],
        outputs=[types_pb2.TensorSpec(name="value", data_type=FLOAT, shape=[1])],
    )


def test_image_channels_have_hand_computed_values() -> None:
    picture = np.zeros((1, 1, 3, 3), np.float32)
    picture[0, 0, 0, 2] = 9.0
    found = ch.channels(
        image_signature(1, 3, 3), {"image": picture}, {"probabilities": np.array([[0.25, 0.75]])}
    )
    assert found["image.mean"][0] == pytest.approx(1.0)
    assert found["image.max"][0] == 9.0
    assert found["image.std"][0] == pytest.approx(np.sqrt(72 / 9))
    assert found["image.gradient"][0] == pytest.approx(9 / 6 + 9 / 6)
    assert (found["image.center_x"][0], found["image.center_y"][0]) == (1.0, 0.0)
    assert found["output.confidence"][0] == 0.75
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(2)
    assert found["output.entropy"][0] == pytest.approx(expected)
    assert found["output.class"].tolist() == ["dog"]


def test_a_blank_image_has_its_centre_in_the_middle() -> None:
    found = ch.channels(
        image_signature(4, 4), {"image": np.ones((2, 4, 4))}, {"probabilities": np.ones((2, 2))}
    )
    assert found["image.center_x"].tolist() == [0.5, 0.5]


def test_rows_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((7, 3, 70, 33)).astype(np.float32)
    outputs = rng.random((7, 2))
    together = ch.channels(
        image_signature(3, 70, 33), {"image": images}, {"probabilities": outputs}
    )
    for row in range(7):
        alone = ch.channels(
            image_signature(3, 70, 33),
            {"image": images[row : row + 1]},
            {"probabilities": outputs[row : row + 1]},
        )
        for name, values in alone.items():
            if name == "output.class":
                assert values[0] == together[name][row]
            else:
                assert values[0] == pytest.approx(together[name][row], rel=1e-12)


def test_projections_are_the_same_in_every_version() -> None:
    found = ch.channels(
        image_signature(1, 2, 2),
        {"image": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)},
        {"probabilities": np.array([[0.5, 0.5]])},
    )
    drawn = np.random.RandomState(20010).standard_normal((8, 4))
    expected = drawn @ np.arange(4) / np.linalg.norm(drawn, axis=1)
    got = [found[f"image.projection_{k}"][0] for k in range(8)]
    assert got == pytest.approx(expected.tolist())


def test_tabular_channels_are_named_by_feature_or_index() -> None:
    rows = np.arange(6.0).reshape(2, 3)
    value = {"value": np.array([[1.5], [2.5]])}
    named = ch.channels(
        vector_signature(3), {"features": rows}, value, feature_names=["age", "pay"]
    )
    assert list(named) == ["input.age", "input.pay", "input.2", "output.value"]
    assert named["input.pay"].tolist() == [1.0, 4.0]
    assert named["output.value"].tolist() == [1.5, 2.5]
    assert ch.feature_names_in(named) == ["age", "pay", "2"]


def test_at_most_64_features_are_watched() -> None:
    found = ch.channels(
        vector_signature(100), {"features": np.zeros((1, 100))}, {"value": np.zeros((1, 1))}
    )
    assert sum(name.startswith("input.") for name in found) == 64


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"other": np.zeros((1, 3))}, "'features' is missing"),
        ({"features": np.zeros(3)}, r"shape \[3\]"),
    ],
)
def test_wrong_tensors_are_refused(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ch.channels(vector_signature(3), inputs, {"value": np.zeros((1, 1))})


def test_bins_are_fine_in_the_tails_and_coarse_in_the_middle() -> None:
    values = np.random.default_rng(1).normal(size=5000)
    edges = ch.bin_edges(values)
    counts = ch.histogram(values, edges)
    assert 20 <= len(counts) <= 26
    assert counts[0] <= 15
    assert counts[-1] <= 15
    assert 450 <= counts[len(counts) // 2] <= 550


def test_an_atom_keeps_a_bin_of_its_own() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate((np.zeros(300), rng.exponential(size=700)))
    edges = ch.bin_edges(values)
    counts = ch.histogram(values, edges)
    assert counts[np.searchsorted(edges, 0.0, side="right")] == 300
    assert ch.histogram(np.array([-0.01]), edges)[0] == 1


def test_a_constant_channel_tells_any_change() -> None:
    edges = ch.bin_edges(np.full(100, 7.0))
    assert ch.histogram(np.array([7.0, 7.0000001, 6.9, 7.1]), edges).tolist() == [1, 2, 1]


def test_rounding_to_six_digits_moves_no_row_of_an_atom() -> None:
    values = np.repeat(np.array([1 / 3, 2 / 3, 123456.789]), 50)
    edges = ch.bin_edges(values)
    rounded = np.array([float(f"{v:.6g}") for v in values])
    assert ch.histogram(values, edges).tolist() == ch.histogram(rounded, edges).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=300))
def test_every_row_is_counted_once(values: list[float]) -> None:
    edges = ch.bin_edges(np.array(values))
    assert (np.diff(edges) > 0).all()
    assert ch.histogram(np.array(values), edges).sum() == len(values)
    assert len(edges) <= 90


def test_non_finite_values_are_counted_but_cut_no_bins() -> None:
    values = np.array([1.0, 2.0, np.nan, np.inf])
    edges = ch.bin_edges(values)
    assert np.isfinite(edges).all()
    assert ch.histogram(values, edges).sum() == 4
    assert ch.histogram(np.array([np.nan]), edges)[-1] == 1
    assert ch.bin_edges(np.array([np.nan])).size == 0


def test_categories_keep_the_most_frequent() -> None:
    values = np.array(["b", "a", "b", "c", "b", "a"])
    assert ch.categories(values) == ["a", "b", "c"]
    assert ch.categories(values, limit=2) == ["a", "b"]
    assert ch.category_histogram(np.array(["a", "z", "b", "a"]), ["a", "b"]).tolist() == [2, 1, 1]
