"""Graph parameters in the service: searched, kept, listed, imported, and refused where wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keeptune.runtime.calls import calling
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.errors import InvalidInput
from keeptune.search import convert_space
from keeptune.search.conformance import GRAPHS
from keeptune.search.graphs.values import Graph
from keeptune.v1 import search_pb2, types_pb2
from tests.integration.search.service import COMPLETED, Service, running, study

Kind = types_pb2.LayerKind
Node = types_pb2.GraphNode
Spec = types_pb2.ParameterSpec
UNITS = Spec(name="units", int_range=types_pb2.IntRange(min=1, max=8))
CHAIN, DAG, TREE = (
    types_pb2.GRAPH_SHAPE_CHAIN,
    types_pb2.GRAPH_SHAPE_DAG,
    types_pb2.GRAPH_SHAPE_TREE,
)


def of_graphs(**changes: Any) -> search_pb2.Study:
    """A study of lists of dense layers, in which `changes` are made."""
    fields: dict[str, Any] = {
        "kinds": [Kind(kind="dense", parameters=[UNITS])],
        "shape": CHAIN,
        "max_nodes": 4,
    }
    graph = types_pb2.GraphSpace(**(fields | changes))
    return study(space=types_pb2.SearchSpace(parameters=[Spec(name="net", graph=graph)]))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as service:
        yield service


@pytest.mark.parametrize("shape", GRAPHS)
@pytest.mark.parametrize("algorithm", ["auto", "neat"])
async def test_a_restart_changes_nothing(tmp_path: Path, shape: str, algorithm: str) -> None:
    asked = study(
        space=convert_space.space_to_proto(GRAPHS[shape]), algorithm=algorithm, max_trials=14
    )
    async with running(tmp_path / "undisturbed", ManualClock()) as service:
        created = await service.create(asked)
        assert created.space == asked.space
        await play(service, 14)
        undisturbed = await found(service)
    for trials in (0, 9, 5):
        async with running(tmp_path / "restarted", ManualClock()) as service:
            if not trials:
                await service.create(asked)
            await play(service, trials)
            restarted = await found(service)
    assert restarted == undisturbed
    graphs = [parameters["net"].graph_value for parameters in restarted]
    assert all(graph.nodes for graph in graphs)
    assert len({graph.SerializeToString(deterministic=True) for graph in graphs}) > 4


async def play(service: Service, trials: int) -> None:
    for _ in range(trials):
        (leased,) = (await service.suggest()).trials
        graph = leased.trial.parameters["net"].graph_value
        await service.complete(leased, abs(len(graph.nodes) - 3.0))


async def found(service: Service) -> list[dict[str, types_pb2.ParameterValue]]:
    trials = sorted(await service.trials(order_by=""), key=lambda t: int(t.name.split("/")[-1]))
    return [dict(trial.parameters) for trial in trials]


async def test_watchers_see_graphs(service: Service) -> None:
    await service.create(of_graphs())
    (leased,) = (await service.suggest()).trials
    watch = service.stub.WatchStudy(search_pb2.WatchStudyRequest(study="studies/s"))
    async for event in watch:
        if event.WhichOneof("event") == "trial":
            assert event.trial.parameters == leased.trial.parameters
            break


async def add(service: Service, *nodes: Node) -> search_pb2.Trial:
    trial = search_pb2.Trial(
        state=COMPLETED,
        parameters={"net": types_pb2.ParameterValue(graph_value=types_pb2.Graph(nodes=nodes))},
        final_measurement=types_pb2.Measurement(metrics={"loss": 1.0}),
    )
    request = search_pb2.AddTrialsRequest(study="studies/s", trials=[trial])
    return (await calling(service.stub.AddTrials(request))).trials[0]


def dense(id_: int, *inputs: int, **settings: int) -> Node:
    settings = settings or {"units": 2}
    values = {name: types_pb2.ParameterValue(int_value=v) for name, v in settings.items()}
    return Node(id=id_, kind="dense", parameters=values, inputs=inputs)


async def test_known_graphs_are_added_whatever_their_ids(service: Service) -> None:
    await service.create(of_graphs())
    added = await add(service, dense(7, 0, units=5), dense(3, 7))
    nodes = added.parameters["net"].graph_value.nodes
    assert [(node.id, list(node.inputs)) for node in nodes] == [(1, [0]), (2, [1])]
    assert nodes[0].parameters["units"].int_value == 5


WRONG_GRAPHS: dict[str, tuple[list[Node], str]] = {
    "no nodes": ([], "is empty"),
    "an id twice": ([dense(1, 0), dense(1, 1)], "is 1"),
    "a later node": ([dense(1, 2), dense(2, 1)], "no node before it"),
    "another kind": ([Node(id=1, kind="conv", inputs=[0])], "kind 'conv'"),
    "no parameter": ([Node(id=1, kind="dense", inputs=[0])], "'units' is missing"),
    "a wrong value": ([dense(1, 0, units=9)], "'units' is 9"),
    "an unknown parameter": ([dense(1, 0, units=1, depth=2)], "'depth' is no parameter"),
    "two inputs": ([dense(1, 0, 0)], "2 inputs"),
    "no input": ([dense(1)], "0 inputs"),
    "too many nodes": ([dense(i + 1, i) for i in range(5)], "5 nodes"),
    "an idle node": ([dense(1, 0), dense(2, 0)], "nobody takes"),
}


@pytest.mark.parametrize("case", WRONG_GRAPHS)
async def test_wrong_graphs_are_not_added(service: Service, case: str) -> None:
    nodes, problem = WRONG_GRAPHS[case]
    await service.create(of_graphs())
    with pytest.raises(InvalidInput) as refused:
        await add(service, *nodes)
    (violation,) = refused.value.violations
    assert violation.field.startswith('trials[0].parameters["net"]')
    assert problem in violation.problem
    assert violation.fix
    assert not await service.trials()


WRONG_SPACES: dict[str, tuple[dict[str, Any], str]] = {
    "no shape": ({"shape": 0}, "shape"),
    "no size": ({"max_nodes": 0}, "max_nodes"),
    "too large": ({"max_nodes": 101}, "max_nodes"),
    "no kinds": ({"kinds": []}, "kinds"),
    "a kind twice": ({"kinds": [Kind(kind="a"), Kind(kind="a")]}, "kinds[1].kind"),
    "a wrong parameter": (
        {
            "kinds": [
                Kind(
                    kind="a",
                    parameters=[Spec(name="n", int_range=types_pb2.IntRange(min=2, max=1))],
                )
            ]
        },
        "kinds[0].parameters[0].int_range.min",
    ),
    "bounds upside down": ({"min_nodes": 5}, "min_nodes"),
    "depths upside down": ({"min_depth": 3, "max_depth": 2}, "min_depth"),
    "the width of a chain": ({"max_width": 2}, "max_width"),
    "a chain with branches": ({"kinds": [Kind(kind="a", max_inputs=2)]}, "kinds[0].inputs"),
    "a terminal with inputs": (
        {"kinds": [Kind(kind="a", terminal=True, inputs=["x"])]},
        "kinds[0].terminal",
    ),
    "types that lead nowhere": ({"output": "image"}, ""),
    "too deep to be": ({"min_depth": 9}, ""),
}


@pytest.mark.parametrize("case", WRONG_SPACES)
async def test_wrong_spaces(service: Service, case: str) -> None:
    changes, field = WRONG_SPACES[case]
    with pytest.raises(InvalidInput) as refused:
        await service.create(of_graphs(**changes))
    place = "study.space.parameters[0].graph"
    assert refused.value.violations[0].field == (f"{place}.{field}" if field else place)
    assert refused.value.violations[0].problem


async def test_a_graph_is_no_parent_no_category_and_no_constant(service: Service) -> None:
    graph = of_graphs().space.parameters[0]
    value = types_pb2.ParameterValue(graph_value=types_pb2.Graph(nodes=[dense(1, 0)]))
    child = Spec(
        name="child",
        int_range=types_pb2.IntRange(min=1, max=2),
        conditions=[types_pb2.Condition(parent="net", values=types_pb2.Categories(values=[value]))],
    )
    for wrong, field in (
        ([graph, child], "parameters[1].conditions[0].parent"),
        ([Spec(name="c", categories=types_pb2.Categories(values=[value]))], "parameters[0].cat"),
        ([Spec(name="f", fixed=value)], "parameters[0].fixed"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await service.create(study(space=types_pb2.SearchSpace(parameters=wrong)))
        assert refused.value.violations[0].field.startswith(f"study.space.{field}")


@pytest.mark.parametrize("algorithm", ["tpe", "grid", "bayesian", "nevergrad/CMA"])
async def test_other_algorithms_refuse_graphs(service: Service, algorithm: str) -> None:
    asked = of_graphs()
    asked.algorithm.name = algorithm
    with pytest.raises(InvalidInput) as refused:
        await service.create(asked)
    (violation,) = refused.value.violations
    assert violation.field == "study.algorithm.name"
    assert "neat" in violation.fix


async def test_algorithms_tell_whether_they_take_graphs(service: Service) -> None:
    answer = await service.stub.ListAlgorithms(search_pb2.ListAlgorithmsRequest())
    able = {each.name for each in answer.algorithms if each.graphs}
    wanted = {"auto", "random", "quasi-random", "regularized-evolution", "neat"}
    assert able == wanted | {"genetic-programming"}


async def test_insight_sees_how_large_graphs_are(service: Service) -> None:
    await service.create(study(space=convert_space.space_to_proto(GRAPHS["alone"])))
    await play(service, 40)
    importance = await calling(
        service.stub.GetParameterImportance(
            search_pb2.GetParameterImportanceRequest(study="studies/s")
        )
    )
    assert [each.parameter for each in importance.importances] == ["net"]
    assert importance.importances[0].value > 0.5
    assert "graph net" in importance.remark
    dependence = await calling(
        service.stub.GetPartialDependence(
            search_pb2.GetPartialDependenceRequest(study="studies/s", parameters=["net"])
        )
    )
    sizes = [value.int_value for value in dependence.axes[0].values]
    assert sizes == list(range(1, 9))
    assert min(zip(dependence.mean, sizes, strict=True))[1] == 3


async def test_a_study_takes_over_graphs_of_an_earlier_one(service: Service) -> None:
    await service.create(of_graphs())
    await play(service, 12)
    later = of_graphs(max_nodes=3)
    later.warm_start.append("studies/s")
    later.algorithm.name = "auto"
    await service.create(later, "later")
    for _ in range(6):
        (leased,) = (await service.suggest(study="later")).trials
        nodes = leased.trial.parameters["net"].graph_value.nodes
        assert 1 <= len(nodes) <= 3
        await service.complete(leased, float(len(nodes)))


def test_every_shape_comes_back_from_protobuf() -> None:
    for space in GRAPHS.values():
        message = convert_space.space_to_proto(space)
        assert convert_space.space_from_proto(message, "space") == space
        value = space.at({"net": 0.7})["net"]
        assert isinstance(value, Graph)
        assert convert_space.value_from_proto(convert_space.value_to_proto(value), "v") == value
