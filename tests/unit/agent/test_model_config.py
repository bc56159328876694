from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from keeptune.agent.model_config import (
    check_config,
    config_body,
    render_config,
    served_versions,
)
from keeptune.runtime.errors import InvalidInput

AWKWARD = """
# name: "commented" { [
name: 'first" {' platform: "onnxruntime_onnx"
max_batch_size: 8 version_policy: { latest { num_versions: 1 } }
input [ { name: "x # not a comment" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]  # "
output { name: "y" data_type: TYPE_FP32, dims: [4]; }
parameters { key: "note" value { string_value: "name: \\"inner\\" version_policy { }" } }
dynamic_batching < max_queue_delay_microseconds: 100 >
"""


def test_name_and_versions_are_replaced_and_the_rest_is_kept() -> None:
    rendered = render_config(AWKWARD, name="digits", versions=(1, 12))
    parsed = text_format.Parse(rendered, ModelConfig())
    expected = text_format.Parse(AWKWARD, ModelConfig())
    expected.name = "digits"
    expected.version_policy.specific.versions.extend([1, 12])
    assert parsed == expected
    assert served_versions(rendered) == (1, 12)
    again = render_config(rendered, name="other", versions=(3,))
    assert served_versions(again) == (3,)
    assert config_body(again) == config_body(AWKWARD)


def test_text_without_a_policy_serves_none() -> None:
    assert served_versions(AWKWARD) == ()
    assert served_versions('name: "x"') == ()


@pytest.mark.parametrize(
    "text",
    ["{", "name", "name:", 'name: "a', "a { b", "a { ] ", ": 3", "a: }", "\x00", '"a": 3', "a [ }"],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_config(f'platform: "onnxruntime_onnx"\n{text}', "onnxruntime")
    assert caught.value.field == "config"


@pytest.mark.parametrize(
    "line",
    [
        'default_model_filename: "../../../../etc/passwd"',
        'model_repository_agents { agents [ { name: "checksum" } ] }',
        'model_warmup [ { name: "w" batch_size: 1 } ]',
        "ensemble_scheduling { }",
        'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/tmp/env.tar.gz" } }',
        'backend: "python"',
        'platform: "ensemble"',
    ],
)
def test_fields_that_name_files_or_run_code_are_refused(line: str) -> None:
    check_config('platform: "onnxruntime_onnx"', "onnxruntime")
    with pytest.raises(InvalidInput):
        check_config(f'platform: "onnxruntime_onnx"\n{line}', "onnxruntime")


def test_config_must_be_for_the_platform() -> None:
    check_config('backend: "onnxruntime"', "onnxruntime")
    check_config('backend: "python"', "python")
    for text, platform in (('backend: "python"', "onnxruntime"), ("max_batch_size: 8", "python")):
        with pytest.raises(InvalidInput, match="platform"):
            check_config(text, platform)  # type: ignore[arg-type]
