"""Values that nobody can keep are told by their path."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.validation import validate
from keeptune.runtime.wellformed import problems
from keeptune.v1 import deployment_pb2, retuning_pb2, search_pb2, types_pb2

ENDLESS = 2**63 - 1
NUL = "a\0b"


def study(**fields: object) -> search_pb2.CreateStudyRequest:
    return search_pb2.CreateStudyRequest(study=search_pb2.Study(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (search_pb2.StopStudyRequest(reason=NUL), "reason"),
        (study(display_name=NUL), "study.display_name"),
        (study(warm_start=["studies/a", NUL]), "study.warm_start"),
        (study(labels={"a": NUL}), "study.labels['a']"),
        (study(labels={NUL: "a"}), "study.labels['a\\x00b']"),
        (study(lease_duration=Duration(seconds=ENDLESS)), "study.lease_duration"),
        (study(lease_duration=Duration(nanos=2**31 - 1)), "study.lease_duration"),
        (
            deployment_pb2.ExportCapturesRequest(start_time=Timestamp(seconds=-ENDLESS)),
            "start_time",
        ),
        (deployment_pb2.ExportCapturesRequest(end_time=Timestamp(nanos=-1)), "end_time"),
        (
            search_pb2.AddTrialsRequest(
                trials=[
                    search_pb2.Trial(),
                    search_pb2.Trial(
                        parameters={"x": types_pb2.ParameterValue(string_value=NUL)},
                    ),
                ]
            ),
            "trials[1].parameters['x'].string_value",
        ),
        (
            retuning_pb2.RequestRetuneRequest(
                evidence=[{"detect_time": Timestamp(seconds=ENDLESS)}]  # type: ignore[list-item]
            ),
            "evidence[0].detect_time",
        ),
    ],
)
def test_what_cannot_be_kept_is_named(message: Message, path: str) -> None:
    assert [each.field for each in problems(message)] == [path]
    with pytest.raises(InvalidInput) as caught:
        validate(message)
    assert caught.value.reason == "MALFORMED_VALUE"
    assert caught.value.violations[0].fix


def test_all_that_is_wrong_is_told() -> None:
    message = study(display_name=NUL, lease_duration=Duration(seconds=-ENDLESS))
    assert len(list(problems(message))) == 2


def test_the_outermost_moments_are_moments() -> None:
    sound = deployment_pb2.ExportCapturesRequest(
        start_time=Timestamp(seconds=-62_135_596_800),
        end_time=Timestamp(seconds=253_402_300_799, nanos=999_999_999),
    )
    assert not list(problems(sound))
    assert not list(problems(study(lease_duration=Duration(seconds=-1, nanos=-999_999_999))))
