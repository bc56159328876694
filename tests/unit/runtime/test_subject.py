"""What requests tell of themselves."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from keeptune.runtime.subject import ids_of
from keeptune.v1 import retuning_pb2, search_pb2, training_pb2


@pytest.mark.parametrize(
    ("request_", "ids"),
    [
        (
            search_pb2.CreateStudyRequest(request_id="r", study_id="s", study=search_pb2.Study()),
            {"request_id": "r", "study": "studies/s"},
        ),
        (search_pb2.GetTrialRequest(name="studies/s/trials/3"), {"study": "studies/s"}),
        (search_pb2.ListTrialsRequest(parent="studies/s"), {"study": "studies/s"}),
        (
            search_pb2.SuggestTrialsRequest(request_id="q", study="studies/s"),
            {"request_id": "q", "study": "studies/s"},
        ),
        (
            search_pb2.CompleteTrialRequest(trial="studies/s/trials/3"),
            {"study": "studies/s"},
        ),
        (retuning_pb2.GetRetuneRequest(name="retunes/x"), {"retune": "retunes/x"}),
        (training_pb2.GetTrainingRequest(name="trainings/t"), {}),
        (search_pb2.ListAlgorithmsRequest(), {}),
        (search_pb2.StopStudyRequest(request_id="\0ü"), {"request_id": "%00%C3%BC"}),
    ],
)
def test_what_a_request_is_about(request_: Message, ids: dict[str, str]) -> None:
    assert ids_of(request_) == ids
