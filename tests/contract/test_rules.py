"""The rules at the head of the contracts, held against the protos themselves."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.contract.protos import RPCS, enums, is_map, is_message, is_read, messages, rules

CONTRACT = {
    "SearchService": (
        "CreateStudy GetStudy ListStudies UpdateStudy StopStudy DeleteStudy SuggestTrials "
        "ReportMeasurements CompleteTrial WorkTrials AddTrials GetTrial ListTrials "
        "ListOptimalTrials GetParameterImportance GetPartialDependence GetStudyOutlook WatchStudy "
        "ListAlgorithms"
    ),
    "TrainingService": (
        "ListTrainers GetTrainer CreateTraining GetTraining ListTrainings CancelTraining "
        "WatchTraining"
    ),
    "EvaluationService": "CreateEvaluation GetEvaluation ListEvaluations WatchEvaluation",
    "DeploymentService": (
        "CreateModel GetModel ListModels CreateModelVersion GetModelVersion ListModelVersions "
        "CreateRollout GetRollout ListRollouts WatchRollout PauseRollout ResumeRollout RollBack "
        "ListHosts GetHost RenderManifests"
    ),
    "AgentLink": "Enroll Connect FetchArtifact UploadCapture",
    "RetuningService": (
        "ApplyPolicy GetPolicy ListPolicies DeletePolicy RequestRetune GetRetune ListRetunes "
        "WatchRetunes ApproveRetune CancelRetune"
    ),
    "AgentService": "GetStatus ListModels WatchSignals RecordOutcomes",
}

# What is known when a server starts, or computed; the rest is kept, and found by filter and order.
CATALOGS = {
    "SearchService.ListAlgorithms",
    "SearchService.ListOptimalTrials",
    "TrainingService.ListTrainers",
    "AgentService.ListModels",
}
LISTS = [rpc for rpc in RPCS if rpc.partition(".")[2].startswith("List")]
WATCHES = [rpc for rpc in RPCS if rpc.partition(".")[2].startswith("Watch")]
MUTATIONS = [
    rpc for rpc, method in RPCS.items() if not is_read(rpc) and not method.client_streaming
]
TEXT = FieldDescriptor.TYPE_STRING
RESOURCE = re.compile(
    r"\^\(?(studies|trainings|trainers|evaluations|models|rollouts|hosts|policies|retunes)/"
)


@pytest.mark.parametrize("service", CONTRACT)
def test_what_was_promised_is_there(service: str) -> None:
    there = {rpc.partition(".")[2] for rpc in RPCS if rpc.startswith(f"{service}.")}
    assert set(CONTRACT[service].split()) <= there


def test_unset_never_means_something() -> None:
    for enum in enums():
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        first = enum.values[0]
        assert (first.number, first.name) == (0, f"{prefix}_UNSPECIFIED")
        assert all(value.name.startswith(f"{prefix}_") for value in enum.values)


def test_values_are_typed() -> None:
    for message in messages():
        for field in message.fields:
            assert not re.search(r"json|pickle|_blob|source_code", field.name), field.full_name
            if is_message(field):
                package = field.message_type.file.package
                assert package in ("keeptune.v1", "google.protobuf"), field.full_name
                assert field.message_type.name not in ("Any", "Struct", "Value", "ListValue")


@pytest.mark.parametrize("rpc", MUTATIONS)
def test_a_mutation_carries_a_request_id(rpc: str) -> None:
    field = RPCS[rpc].input_type.fields_by_name["request_id"]
    assert (field.type, field.number) == (TEXT, 1)
    assert rules(field).string.max_len == 255


def test_streams_of_mutations_carry_one_in_each_message() -> None:
    streams = [rpc for rpc, method in RPCS.items() if method.client_streaming]
    assert sorted(streams) == [
        "AgentLink.Connect",  # told by sequence: orders and their results have ids of their own
        "AgentLink.UploadCapture",
        "SearchService.WorkTrials",
    ]
    work = RPCS["SearchService.WorkTrials"].input_type
    upload = RPCS["AgentLink.UploadCapture"].input_type.fields_by_name["header"].message_type
    assert "request_id" in work.fields_by_name
    assert rules(upload.fields_by_name["request_id"]).string.min_len == 1


@pytest.mark.parametrize("rpc", LISTS)
def test_a_list_pages(rpc: str) -> None:
    asked = RPCS[rpc].input_type.fields_by_name
    assert rules(asked["page_size"]).int32.gte == 0
    assert rules(asked["page_size"]).int32.HasField("gte")
    assert asked["page_token"].type == TEXT
    answer = RPCS[rpc].output_type
    assert answer.fields_by_name["next_page_token"].type == TEXT
    assert [field.name for field in answer.fields if field.is_repeated]
    found = {"filter", "order_by"} & {*asked}
    assert found == (set() if rpc in CATALOGS else {"filter", "order_by"})


@pytest.mark.parametrize("rpc", WATCHES)
def test_a_watch_resumes_after_a_revision(rpc: str) -> None:
    method = RPCS[rpc]
    assert method.server_streaming
    assert method.input_type.fields_by_name["revision"].type == FieldDescriptor.TYPE_INT64
    assert method.output_type.fields_by_name["revision"].type == FieldDescriptor.TYPE_INT64


def test_what_has_a_state_says_why() -> None:
    found = []
    for message in messages():
        fields = message.fields_by_name
        state = fields.get("state")
        if state is None or state.enum_type is None or "name" not in fields:
            continue
        found.append(message.name)
        assert fields["reason"].type == TEXT, message.name
        assert fields["metadata"].message_type.name == "Metadata", message.name
        if message.name not in ("Trial", "Host"):
            assert fields["next_step"].type == TEXT, message.name
    assert sorted(found) == [
        "Evaluation",
        "Host",
        "Retune",
        "Rollout",
        "Study",
        "Training",
        "Trial",
    ]


def test_long_work_can_be_followed_and_ended() -> None:
    def there(*rpcs: str) -> bool:
        return set(rpcs) <= RPCS.keys()

    assert there("SearchService.WatchStudy", "SearchService.StopStudy")
    assert there("TrainingService.WatchTraining", "TrainingService.CancelTraining")
    assert there("EvaluationService.WatchEvaluation")
    assert there("DeploymentService.WatchRollout", "DeploymentService.RollBack")
    assert there("RetuningService.WatchRetunes", "RetuningService.CancelRetune")


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if ".Update" in rpc or ".Delete" in rpc])
def test_changes_are_guarded_by_an_etag(rpc: str) -> None:
    fields = RPCS[rpc].input_type.fields_by_name
    if ".Delete" in rpc:
        assert fields["etag"].type == TEXT
        return
    assert fields["update_mask"].message_type.name == "FieldMask"
    (resource,) = (
        field.message_type
        for field in fields.values()
        if is_message(field) and "metadata" in field.message_type.fields_by_name
    )
    assert "etag" in resource.fields_by_name["metadata"].message_type.fields_by_name


def test_names_and_ids_have_their_form() -> None:
    """In every request: `name`, `parent`, and what names another resource; and `*_id`."""
    naming = {"name", "parent", "study", "trial", "model", "policy"}
    seen = 0
    for rpc, method in RPCS.items():
        for field in method.input_type.fields:
            if field.type != TEXT or field.name == "request_id":
                continue
            pattern = rules(field).string.pattern
            if field.name in naming:
                assert RESOURCE.match(pattern), f"{rpc}: {field.name} {pattern}"
                seen += 1
            elif field.name.endswith("_id"):
                assert re.fullmatch(pattern, "a-1"), f"{rpc}: {field.name}"
                assert not re.fullmatch(pattern, "A_1/.."), f"{rpc}: {field.name}"
                assert not re.fullmatch(pattern, "a" * 64), f"{rpc}: {field.name}"
                seen += 1
    assert seen > 40


def test_every_map_that_is_sent_to_us_is_bounded() -> None:
    pending = [method.input_type for method in RPCS.values()]
    seen = set()
    unbounded = set()
    while pending:
        message = pending.pop()
        if message.full_name in seen or message.file.package != "keeptune.v1":
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if is_map(field):
                if not rules(field).map.HasField("max_pairs"):
                    unbounded.add(field.full_name.removeprefix("keeptune.v1."))
            elif is_message(field):
                pending.append(field.message_type)
    # Each of these must have a name that the trainer or the study knows.
    assert unbounded <= {"FixedParameters.parameters", "GraphNode.parameters", "Trial.parameters"}
