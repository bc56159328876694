from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from keeptune.agent.detectors.base import Limits
from keeptune.agent.host_store import Bake, HostStore, ModelRecord
from keeptune.agent.limits import Watch
from keeptune.agent.model_watch import ModelWatch, Served
from keeptune.agent.outcomes import Outcome
from keeptune.agent.sampling import Sample
from keeptune.agent.triton_model import Tally, VersionStatistics
from keeptune.v1 import deployment_pb2, evaluation_pb2, monitoring_pb2, types_pb2

SIGNATURE = types_pb2.ModelSignature(
    task=types_pb2.TASK_CLASSIFICATION,
    inputs=[types_pb2.TensorSpec(name="features", data_type=1, shape=[2])],
    outputs=[types_pb2.TensorSpec(name="probabilities", data_type=1, shape=[2])],
    classes=["no", "yes"],
)
NOW = 1_000_000.0


def profile(accuracy: float = 0.9) -> bytes:
    edges = [-1.0, -0.3, 0.3, 1.0]
    counts = [16, 22, 24, 22, 16]
    return evaluation_pb2.ReferenceProfile(
        rows=100,
        accuracy=accuracy,
        channels=[
            evaluation_pb2.ChannelProfile(channel=f"input.{name}", edges=edges, counts=counts)
            for name in ("a", "b")
        ],
    ).SerializeToString()


def served(number: int, content: bytes | None = None) -> Served:
    version = deployment_pb2.ModelVersion(name=f"models/m/versions/{number}", signature=SIGNATURE)
    return Served(number, version, profile() if content is None else content)


def watching(watch: Watch | None = None, number: int = 1) -> ModelWatch:
    made = ModelWatch("m", watch or Watch(capture=True), np.random.default_rng(0))
    made.serve(served(number), {})
    return made


def sample(
    name: str, x: float = 0.0, *, version: int = 1, rows: int = 1, failed: bool = False
) -> Sample:
    return Sample(
        request_id=name,
        model="m",
        version=version,
        time=datetime.fromtimestamp(NOW, UTC),
        inputs={"features": np.full((rows, 2), x, np.float32)},
        outputs={} if failed else {"probabilities": np.tile(np.float32([0.2, 0.8]), (rows, 1))},
        failed=failed,
    )


def statistics(success: int, fail: int = 0, mean_ms: float = 1.0) -> VersionStatistics:
    none = Tally()
    took = Tally(success, int(success * mean_ms * 1e6))
    return VersionStatistics(
        "m", 1, took, Tally(fail, 0), none, none, none, none, success, success, None
    )


def test_outcomes_speak_only_for_the_version_that_answered() -> None:
    watch = watching()
    watch.take([sample("a"), sample("b")], NOW)
    joined, _, _ = watch.join([Outcome("a", 0, "yes")], NOW)
    watch.count(joined, NOW)
    watch.serve(served(2), {})
    joined, unmatched, _ = watch.join([Outcome("b", 0, "no"), Outcome("c", 0, "no")], NOW)
    watch.count(joined, NOW)
    # Still a labelled capture, but no evidence against version 2.
    assert (joined[0].request.version, joined[0].right, unmatched) == (1, False, 1)
    assert watch.accuracy is not None
    assert watch.accuracy.outcomes == 0


def test_of_a_batch_one_row_is_watched_and_all_can_be_joined() -> None:
    watch = watching()
    watch.take([sample("a", rows=3)], NOW)
    assert watch.drift is not None
    assert watch.drift.samples == 1
    joined, _, _ = watch.join([Outcome("a", 2, "no")], NOW)
    assert joined[0].request.inputs["features"].shape == (3, 2)


def test_samples_of_other_versions_and_failed_ones_feed_no_drift() -> None:
    watch = watching()
    watch.take([sample("a", version=7), sample("b", failed=True), sample("c")], NOW)
    assert watch.drift is not None
    assert (watch.sampled, watch.skipped, watch.drift.samples) == (2, 1, 1)


def test_samples_that_do_not_fit_the_signature_harm_nothing() -> None:
    watch = watching()
    odd = Sample(
        "odd", "m", 1, datetime.fromtimestamp(NOW, UTC),
        {"other": np.zeros((1, 2))}, {"probabilities": np.zeros((1, 2), np.float32)},
    )  # fmt: skip
    empty = sample("empty", rows=0)
    nan = sample("nan", float("nan"))
    watch.take([odd, empty, nan, sample("good")], NOW)
    assert watch.drift is not None
    assert watch.drift.samples == 1
    assert watch.drift.unusable == 1


def test_inputs_are_kept_only_where_captures_are_allowed() -> None:
    watch = watching(Watch(capture=False))
    watch.take([sample("a")], NOW)
    joined, _, _ = watch.join([Outcome("a", 0, "yes")], NOW)
    assert joined[0].request.inputs == {}


def test_a_restart_goes_on_and_a_new_version_begins_anew() -> None:
    watch = watching()
    rng = np.random.default_rng(1)
    watch.take([sample(f"r{i}", float(v)) for i, v in enumerate(rng.normal(size=30))], NOW)
    again = ModelWatch("m", Watch(capture=True), np.random.default_rng(0))
    again.serve(served(1), watch.save())
    assert again.drift is not None
    assert again.drift.samples == again.sampled == 30
    again.serve(served(2), {})
    assert again.drift.samples == again.sampled == 0
    # The state of another profile is refused, and the watch begins anew.
    other = evaluation_pb2.ReferenceProfile(
        channels=[evaluation_pb2.ChannelProfile(channel="x", edges=[0], counts=[1, 1])]
    )
    again.serve(served(3, other.SerializeToString()), watch.save())
    assert again.drift.samples == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x12\x00"])
def test_no_or_a_broken_profile_is_said_and_health_is_watched_on(content: bytes) -> None:
    watch = ModelWatch("m", Watch(), np.random.default_rng(0))
    watch.serve(served(1, content), {})
    assert watch.drift is None
    assert "profile" in watch.notes[0]
    watch.take([sample("a")], NOW)
    for second in range(3):
        watch.poll(statistics(100 + second, fail=100 * second), NOW + second)
    assert watch.findings()[monitoring_pb2.SIGNAL_KIND_ERRORS] is not None
    assert "failed" in watch.breach()


def test_statistics_are_those_of_the_version() -> None:
    watch = watching()
    watch.take([sample("a")], NOW)
    for second in range(3):
        watch.poll(statistics(100 * (second + 1), mean_ms=2.0), NOW + second)
    message = watch.statistics("models/m/versions/1", dropped=3, pending=4)
    assert (message.requests, message.failures, message.sampled) == (300, 0, 1)
    assert message.mean_latency_ms == pytest.approx(2.0)
    assert (message.dropped, message.captures_pending) == (3, 4)
    assert not message.HasField("recent_accuracy")
    assert message.drift_level < 0


def test_other_limits_begin_the_tests_anew_another_rate_does_not() -> None:
    watch = watching()
    watch.take([sample("a")], NOW)
    watch.configure(Watch(sample_every=1, capture=True))
    assert watch.drift is not None
    assert watch.drift.samples == 1
    watch.configure(Watch(limits=Limits(average_run_length=1000)))
    assert watch.drift is not None
    assert watch.drift.samples == 0
    assert watch.drift.limits.average_run_length == 1000


def test_the_store_keeps_what_it_is_given(tmp_path: Path) -> None:
    store = HostStore(tmp_path)
    assert store.record("m") == ModelRecord()
    record = ModelRecord(
        monitoring_pb2.Monitoring(sampling_rate=0.5), Bake(2, 1, 10.0, 20.0), "went back"
    )
    store.put_record("m", record)
    store.put_version("m", served(1).version, 1, b"p1")
    store.put_version("m", served(2).version, 2, b"")
    store.put_watch("m", 1, watching().save())
    again = HostStore(tmp_path)
    assert again.record("m") == record
    assert again.version("m", 1) == served(1).version
    assert (again.profile("m", 1), again.profile("m", 2), again.profile("m", 3)) == (
        b"p1",
        b"",
        b"",
    )
    assert "drift/counts" in again.watch("m", 1)
    (tmp_path / "m" / "1.watch").write_bytes(b"PK damaged")
    assert again.watch("m", 1) == {}
    again.keep_versions("m", {2})
    assert again.version("m", 1) is None
    assert again.models() == ("m",)
    again.forget("m")
    assert again.models() == ()
