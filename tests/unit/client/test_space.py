"""Search spaces, metrics and pruning as they are written in Python."""

from typing import Any

import pytest
from google.protobuf import json_format

from keeptune.client import (
    Asha,
    Between,
    Choice,
    Fixed,
    Float,
    Forecast,
    Hyperband,
    Int,
    Median,
    Metric,
    values,
)
from keeptune.client.errors import InvalidInput
from keeptune.client.settings import metrics_to_messages, pruning_to_message
from keeptune.client.space import to_message
from keeptune.v1 import search_pb2, types_pb2


def plain(space: Any) -> dict[str, Any]:
    message = to_message(space)
    return {
        spec.name: json_format.MessageToDict(spec, preserving_proto_field_name=True)
        for spec in message.parameters
    }


def test_domains_become_what_the_protos_say() -> None:
    found = plain(
        {
            "lr": Float(1e-5, 1e-1, log=True),
            "dropout": Float(0, 0.5, step=0.1),
            "layers": Int(1, 4),
            "width": Int(8, 512, log=True),
            "act": Choice(["relu", 2, 0.5, True]),
            "epochs": 20,
            "name": "cnn",
            "flag": True,
        }
    )
    assert found["lr"]["float_range"] == {"min": 1e-5, "max": 0.1, "scale": "SCALE_LOG"}
    assert found["dropout"]["float_range"]["step"] == 0.1
    assert found["layers"]["int_range"]["max"] == "4"
    assert found["width"]["int_range"]["scale"] == "SCALE_LOG"
    assert found["act"]["categories"]["values"] == [
        {"string_value": "relu"},
        {"int_value": "2"},
        {"double_value": 0.5},
        {"bool_value": True},
    ]
    assert found["epochs"]["fixed"] == {"int_value": "20"}
    assert found["name"]["fixed"] == {"string_value": "cnn"}
    assert found["flag"]["fixed"] == {"bool_value": True}


def test_conditions() -> None:
    found = plain(
        {
            "momentum": Float(0, 1, when={"optimizer": "sgd"}),
            "beta": Float(0, 1, when={"optimizer": ["adam", "adamw"], "layers": Between(2, 4)}),
            "warm": Fixed(True, when={"layers": 3}),
        }
    )
    assert found["momentum"]["conditions"] == [
        {"parent": "optimizer", "values": {"values": [{"string_value": "sgd"}]}}
    ]
    first, second = found["beta"]["conditions"]
    assert len(first["values"]["values"]) == 2
    assert second == {"parent": "layers", "range": {"min": 2.0, "max": 4.0}}
    assert found["warm"]["conditions"][0]["values"]["values"] == [{"int_value": "3"}]


@pytest.mark.parametrize(
    ("domain", "field"),
    [
        (object(), "space.x"),
        (Int(1, 2.5), "space.x.max"),  # type: ignore[arg-type]
        (Choice("abc"), "space.x.values"),
        (Choice([None]), "space.x.values[0]"),  # type: ignore[list-item]
        (Float(0, 1, when={"a": {1: 2}}), "space.x.when.a"),  # type: ignore[dict-item]
    ],
)
def test_what_is_no_domain_names_the_parameter(domain: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        to_message({"x": domain})
    assert caught.value.field == field and caught.value.violations[0].fix


def test_values_come_back_as_they_went() -> None:
    for value in (True, 3, 0.25, "relu"):
        back = values.from_message(values.to_message(value))
        assert back == value and type(back) is type(value)
    assert values.from_message(types_pb2.ParameterValue()) is None


def test_metrics_by_name_or_in_full() -> None:
    (only,) = metrics_to_messages("loss", "minimize")
    assert (only.name, only.goal) == ("loss", types_pb2.GOAL_MINIMIZE)
    first, second = metrics_to_messages(
        [Metric("accuracy"), Metric("ms", "minimize", "constraint", limit=5)], "maximize"
    )
    assert not first.HasField("limit")
    assert (second.role, second.limit) == (search_pb2.METRIC_ROLE_CONSTRAINT, 5)
    with pytest.raises(InvalidInput, match="maximize, minimize"):
        metrics_to_messages("loss", "max")  # type: ignore[arg-type]


def test_pruning() -> None:
    assert pruning_to_message(None) is None
    for given, rule in (("asha", "asha"), ("forecast", "forecast"), (Asha(), "asha")):
        message = pruning_to_message(given)  # type: ignore[arg-type]
        assert message is not None and message.WhichOneof("rule") == rule
    message = pruning_to_message(Hyperband(max_steps=27))
    assert message is not None and message.hyperband.max_steps == 27
    message = pruning_to_message(Forecast(level=0.1))
    assert message is not None and message.forecast.level == 0.1
    message = pruning_to_message(Median(startup_trials=7))
    assert message is not None and message.median.startup_trials == 7
    with pytest.raises(InvalidInput):
        pruning_to_message("hyperband")  # type: ignore[arg-type]
