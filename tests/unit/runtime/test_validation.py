import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.validation import validate
from keeptune.v1 import search_pb2, types_pb2


def test_a_right_message_passes() -> None:
    validate(search_pb2.GetStudyRequest(name="studies/x"))


def test_paths_have_indexes_and_keys() -> None:
    request = search_pb2.CompleteTrialRequest(trial="studies/a/trials/1", lease_token="x")
    request.measurement.metrics["not a name"] = 1.0
    with pytest.raises(InvalidInput) as caught:
        validate(request)
    assert caught.value.field == "measurement.metrics['not a name']"
    space = types_pb2.SearchSpace()
    for _ in range(2):
        space.parameters.add(name="ok", fixed=types_pb2.ParameterValue(int_value=1))
    space.parameters[1].name = ""
    with pytest.raises(InvalidInput) as caught:
        validate(space)
    assert caught.value.field == "parameters[1].name"


def test_long_values_are_not_sent_back_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(search_pb2.GetStudyRequest(name="x" * 100_000))
    assert len(str(caught.value)) < 300


def test_all_violations_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(search_pb2.SuggestTrialsRequest(count=-1))
    assert {each.field for each in caught.value.violations} == {"study", "worker", "count"}
    assert all(each.fix for each in caught.value.violations)
