from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from keeptune.runtime import convert
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.records import Record
from keeptune.v1 import search_pb2


def test_times_and_durations_there_and_back() -> None:
    moment = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    stamp = convert.to_timestamp(moment)
    assert stamp is not None
    assert convert.from_timestamp(stamp) == moment
    duration = convert.to_duration(timedelta(days=2, microseconds=5))
    assert duration is not None
    assert convert.from_duration(duration) == timedelta(days=2, microseconds=5)


def test_what_is_unset_is_none() -> None:
    assert convert.to_timestamp(None) is None
    assert convert.to_duration(None) is None
    assert convert.from_timestamp(Timestamp()) is None
    assert convert.from_duration(search_pb2.Study().lease_duration) is None


def test_metadata_of_a_record() -> None:
    born, changed = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    record = Record("studies/x", None, "ACTIVE", 26, born, changed, {}, "")
    made = convert.metadata(record)
    assert (made.revision, made.etag) == (26, record.etag)
    assert made.create_time.ToDatetime(UTC) == born
    assert made.update_time.ToDatetime(UTC) == changed


ALLOWED = {"display_name", "budget", "labels", "seed"}


def study() -> search_pb2.Study:
    made = search_pb2.Study(name="studies/x", display_name="old", seed=3, labels={"a": "1"})
    made.budget.max_trials = 10
    return made


def test_masked_fields_change_and_others_stay() -> None:
    change = search_pb2.Study(name="studies/other", display_name="new", labels={"b": "2"})
    change.budget.max_duration.seconds = 5
    result = convert.apply_update_mask(
        study(), change, FieldMask(paths=["budget", "labels"]), ALLOWED
    )
    assert (result.name, result.display_name, result.seed) == ("studies/x", "old", 3)
    assert result.labels == {"b": "2"}
    assert result.budget.max_trials == 0
    assert result.budget.max_duration.seconds == 5


def test_masked_fields_that_are_unset_are_cleared() -> None:
    paths = ["display_name", "budget", "labels", "seed"]
    result = convert.apply_update_mask(study(), search_pb2.Study(), FieldMask(paths=paths), ALLOWED)
    assert result == search_pb2.Study(name="studies/x")


def test_the_given_messages_stay_as_they_are() -> None:
    target, change = study(), search_pb2.Study(display_name="new", seed=7)
    convert.apply_update_mask(target, change, FieldMask(paths=["seed"]), ALLOWED)
    assert target == study()
    assert change == search_pb2.Study(display_name="new", seed=7)


def test_an_empty_mask_and_fixed_fields_are_refused() -> None:
    for paths, problem in (([], "is empty"), (["space", "name"], "'space'")):
        with pytest.raises(InvalidInput, match=problem) as caught:
            convert.apply_update_mask(study(), study(), FieldMask(paths=paths), ALLOWED)
        assert caught.value.field == "update_mask"
        assert "budget" in caught.value.violations[0].fix
