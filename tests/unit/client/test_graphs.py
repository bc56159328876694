"""Graph parameters as they are written in Python and in files, and the values that come back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from keeptune.cli import output
from keeptune.client import Choice, Float, Graph, GraphValue, Int, Kind, Node, values
from keeptune.client.errors import InvalidInput
from keeptune.client.manifest import load
from keeptune.client.space import to_message
from keeptune.v1 import search_pb2, types_pb2

PAGE = (Path(__file__).parents[3] / "docs" / "graphs.md").read_text()
CONV = Kind({"filters": Int(8, 64, log=True)}, inputs=["image"], output="image")


def plain(graph: Graph) -> dict[str, Any]:
    (spec,) = to_message({"net": graph}).parameters
    return json_format.MessageToDict(spec, preserving_proto_field_name=True)["graph"]


def test_graphs_become_what_the_protos_say() -> None:
    found = plain(Graph({"conv": CONV}, max_nodes=5, min_nodes=2, input="image", output="image"))
    assert found == {
        "kinds": [
            {
                "kind": "conv",
                "parameters": [
                    {
                        "name": "filters",
                        "int_range": {"min": "8", "max": "64", "scale": "SCALE_LOG", "step": "1"},
                    }
                ],
                "inputs": ["image"],
                "output": "image",
            }
        ],
        "shape": "GRAPH_SHAPE_CHAIN",
        "min_nodes": 2,
        "max_nodes": 5,
        "input": "image",
        "output": "image",
    }


def test_a_kind_is_a_mapping_of_parameters_where_that_is_all() -> None:
    short = plain(Graph({"fc": {"units": Int(1, 8)}}, max_nodes=3, shape="dag", skips=True))
    long = plain(Graph({"fc": Kind({"units": Int(1, 8)})}, max_nodes=3, shape="dag", skips=True))
    assert short == long
    assert (short["shape"], short["allow_skips"]) == ("GRAPH_SHAPE_DAG", True)


def test_a_kind_without_inputs_is_terminal() -> None:
    kinds = {"one": Kind(inputs=[]), "add": Kind(inputs=["", ""], max_inputs=4)}
    found = plain(Graph(kinds, max_nodes=3, shape="tree"))["kinds"]
    assert found[0] == {"kind": "one", "terminal": True}
    assert found[1] == {"kind": "add", "inputs": ["", ""], "max_inputs": 4}


def test_a_graph_may_have_conditions() -> None:
    space = {"deep": Choice([True, False]), "net": Graph({"fc": {}}, 3, when={"deep": True})}
    assert to_message(space).parameters[1].conditions[0].parent == "deep"


@pytest.mark.parametrize(
    ("graph", "field"),
    [
        (Graph({}, 3, shape="ring"), "space.net.shape"),  # type: ignore[arg-type]
        (Graph({"a": Kind(inputs="image")}, 3), "space.net.kinds.a.inputs"),
        (Graph({"a": {"n": Int(1, 2.5)}}, 3), "space.net.kinds.a.n.max"),  # type: ignore[arg-type]
        (Graph({"a": {"n": object()}}, 3), "space.net.kinds.a.n"),  # type: ignore[dict-item]
    ],
)
def test_what_is_wrong_is_named(graph: Graph, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        to_message({"net": graph})
    assert refused.value.field == field


LIST = GraphValue((Node("conv", {"filters": 32, "rate": 0.25}), Node("pool", inputs=(1,))))
BRANCHES = GraphValue((Node("fc", {"units": 8}), Node("fc", {"units": 4}, (0, 1))))


def test_values_come_back() -> None:
    for value in (LIST, BRANCHES):
        message = values.to_message(value)
        assert [node.id for node in message.graph_value.nodes] == [1, 2]
        assert values.from_message(message) == value


def test_ids_are_places() -> None:
    message = types_pb2.Graph(
        nodes=[
            types_pb2.GraphNode(id=7, kind="a", inputs=[0]),
            types_pb2.GraphNode(id=3, kind="b", inputs=[7]),
        ]
    )
    found = values.from_message(types_pb2.ParameterValue(graph_value=message))
    assert [node.inputs for node in found] == [(0,), (1,)]


def test_values_are_short_for_people() -> None:
    assert str(LIST) == "conv(filters=32, rate=0.25) > pool"
    assert str(BRANCHES) == "1:fc(units=8)<0 2:fc(units=4)<0,1"
    shown = output.parameters({"net": values.to_message(LIST)})
    assert shown == "net=conv(filters=32, rate=0.25) > pool"


def test_no_graph_within_a_graph_and_no_nonsense() -> None:
    with pytest.raises(InvalidInput) as refused:
        values.to_message(GraphValue((Node("a", {"x": None}),)), field="net")  # type: ignore[dict-item]
    assert refused.value.field == "net.nodes[0].parameters.x"


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def test_the_file_of_the_page_is_a_study(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(block("yaml"))
    graph = load(file, search_pb2.Study).space.parameters[0].graph
    assert graph.shape == types_pb2.GRAPH_SHAPE_DAG
    assert [kind.kind for kind in graph.kinds] == ["dense", "dropout"]
    assert graph.kinds[0].parameters[0].int_range.max == 64


def test_the_pipeline_of_the_page_is_a_space() -> None:
    names = {"Choice": Choice, "Float": Float, "Graph": Graph, "Int": Int, "Kind": Kind}
    exec(block("python", 1), names)
    found = plain(names["pipeline"])  # type: ignore[arg-type]
    assert found["kinds"][2] == {
        "kind": "union",
        "inputs": ["columns", "columns"],
        "output": "columns",
        "max_inputs": 3,
    }
