"""What operators see of the running product: ids in the logs, metrics, traces, health."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.errors import NotFound, NotImplementedYet
from keeptune.v1 import (
    evaluation_pb2,
    evaluation_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    types_pb2,
)
from tests.contract.product import ONE_PRODUCT, Product
from tests.contract.world import World
from tests.fixtures.served import Served, free_port, serve

pytestmark = list(ONE_PRODUCT)

SERVICES = {
    "search": "keeptune.v1.SearchService",
    "training": "keeptune.v1.TrainingService",
    "evaluation": "keeptune.v1.EvaluationService",
    "deployment": "keeptune.v1.DeploymentService",
    "link": "keeptune.v1.AgentLink",
    "retuning": "keeptune.v1.RetuningService",
}


# --- logs ---


def test_one_retune_is_followed_through_every_service(product: Product, world: World) -> None:
    retune, study = world.retune.name, world.retune.study
    lines = [line for line in product.plane.log() if line.get("retune") == retune]
    told = {line["event"] for line in lines}
    assert {
        "retune",
        "step taken",  # retuning
        "study created",  # search
        "training created",
        "worker started",
        "judged",  # evaluation
        "version registered",  # deployment
        "rollout created",
    } <= told
    # From its making on, what is done for the study says so; others may ask for the retune itself.
    begun = next(i for i, line in enumerate(lines) if line["event"] == "study created")
    later = [
        line
        for line in lines[begun:]
        if line["event"] in told - {"retune", "step taken"}
        and not line.get("method", "").startswith("/keeptune.v1.RetuningService/")
    ]
    assert {line.get("study") for line in later if line["event"] != "call ended"} == {study}
    answered = {line["method"] for line in lines if line["event"] == "call ended"}
    assert {
        "/keeptune.v1.SearchService/CreateStudy",
        "/keeptune.v1.TrainingService/CreateTraining",
        "/keeptune.v1.EvaluationService/CreateEvaluation",
        "/keeptune.v1.DeploymentService/CreateModelVersion",
        "/keeptune.v1.DeploymentService/CreateRollout",
        # Called by the training's worker processes.
        "/keeptune.v1.SearchService/SuggestTrials",
        "/keeptune.v1.SearchService/CompleteTrial",
    } <= answered


def test_one_request_is_followed_through_the_services_it_asks(
    product: Product, world: World
) -> None:
    answered = {
        line["method"].rpartition(".")[2]
        for line in product.plane.log()
        if line["event"] == "call ended" and line.get("request_id") == "world/apply"
    }
    assert {
        "RetuningService/ApplyPolicy",
        "TrainingService/GetTrainer",
        "SearchService/CreateStudy",
        "EvaluationService/CreateEvaluation",
        "DeploymentService/GetModel",
    } <= answered


def test_every_line_is_json_with_its_time_and_level(product: Product, world: World) -> None:
    for line in product.plane.log():
        assert {"event", "level", "timestamp"} <= line.keys(), line


# --- metrics and health of the whole, and of the agent ---


def metrics_at(address: str) -> dict[str, float]:
    """Series by name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_metrics_count_every_service(product: Product, world: World) -> None:
    found = metrics_at(product.plane.metrics)
    for rpc in ("SearchService/CreateStudy", "TrainingService/CreateTraining"):
        service, _, method = rpc.partition("/")
        labels = f'grpc_method="{method}",grpc_service="keeptune.v1.{service}",grpc_type="unary"'
        assert found[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'] >= 1
        assert found[f"grpc_server_handling_seconds_count{{{labels}}}"] >= 1
    assert found["process_resident_memory_bytes"] > 0
    assert found["keeptune_training_epochs_total"] >= 1


async def health(address: str, service: str) -> Any:
    """Asked without a token, as probes do."""
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2.HealthCheckRequest(service=service)
        return (await health_pb2_grpc.HealthStub(channel).Check(check)).status


async def test_every_server_tells_its_health(product: Product) -> None:
    for service in ("", *SERVICES.values()):
        status = await health(product.plane.address, service)
        assert status == health_pb2.HealthCheckResponse.SERVING, service
    for service in ("", "keeptune.v1.AgentService"):
        status = await health(product.agent.address, service)
        assert status == health_pb2.HealthCheckResponse.SERVING, service


# --- two services apart ---


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OTLP collector does; `spans` are (service, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            attributes = {
                each.key: each.value.string_value for each in resource.resource.attributes
            }
            for scope in resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@dataclass(frozen=True)
class Apart:
    """`keeptune serve search` and `keeptune serve training`, wired by one config file."""

    search: Served
    training: Served
    metrics: dict[str, str]
    collector: Collector

    @asynccontextmanager
    async def channel(self, served: Served) -> AsyncIterator[grpc.aio.Channel]:
        credentials = ClientCredentials.from_file(self.search.tokens_file)
        async with open_channel(served.address, credentials=credentials) as channel:
            yield channel


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    collector = Collector()
    with ExitStack() as stack:
        otlp = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, otlp)
        port = otlp.add_insecure_port("127.0.0.1:0")
        otlp.start()
        stack.callback(otlp.stop, 0)
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        metrics: dict[str, str] = {}
        served: dict[str, Served] = {}
        for service in ("search", "training"):
            metrics[service] = f"127.0.0.1:{free_port()}"
            config = folder / f"{service}.yaml"
            config.write_text(
                yaml.safe_dump(
                    {
                        "platform": {"log_format": "json"},
                        "server": {
                            "metrics_listen": metrics[service],
                            "tokens_file": str(folder / "search" / "credentials"),
                        },
                        "services": {name: each.address for name, each in served.items()},
                        "training": {"workers": 1},
                    }
                )
            )
            served[service] = serve(["serve", service, "--config", str(config)], folder / service)
            stack.callback(served[service].stop)
        yield Apart(served["search"], served["training"], metrics, collector)


async def test_a_trace_spans_the_services(apart: Apart) -> None:
    training = training_pb2.Training(
        study="studies/none",
        trainer="trainers/tabular",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri="/no/such.npz")],
    )
    async with apart.channel(apart.training) as channel:
        create = training_pb2.CreateTrainingRequest(request_id="traced", training=training)
        with pytest.raises(NotFound):
            await calling(training_pb2_grpc.TrainingServiceStub(channel).CreateTraining(create))
    async with asyncio.timeout(15):
        while len(found := spans(apart, "traced")) < 2:
            await asyncio.sleep(0.1)
    (outer_service, outer), (inner_service, inner) = sorted(
        found, key=lambda each: each[1].start_time_unix_nano
    )
    assert (outer_service, inner_service) == ("keeptune-training", "keeptune-search")
    assert outer.name == "keeptune.v1.TrainingService/CreateTraining"
    assert inner.name == "keeptune.v1.SearchService/GetStudy"
    assert (inner.trace_id, inner.parent_span_id) == (outer.trace_id, outer.span_id)
    assert attributes(inner)["keeptune.study"] == "studies/none"
    assert attributes(outer)["rpc.system"] == "grpc"


def attributes(of: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in of.attributes}


def spans(apart: Apart, request_id: str) -> list[tuple[str, Any]]:
    return [
        each
        for each in apart.collector.spans
        if attributes(each[1]).get("keeptune.request_id") == request_id
    ]


async def test_a_service_alone_has_metrics_and_health(apart: Apart) -> None:
    for name, served in (("search", apart.search), ("training", apart.training)):
        for service in ("", SERVICES[name]):
            status = await health(served.address, service)
            assert status == health_pb2.HealthCheckResponse.SERVING
    async with apart.channel(apart.search) as channel:
        stub: Any = search_pb2_grpc.SearchServiceStub(channel)
        await calling(stub.ListStudies(search_pb2.ListStudiesRequest()))
    found = metrics_at(apart.metrics["search"])
    labels = 'grpc_method="ListStudies",grpc_service="keeptune.v1.SearchService",grpc_type="unary"'
    assert found[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'] >= 1
    assert not any("TrainingService" in series for series in found)


async def test_a_service_alone_says_who_it_is_to_calls_of_another(apart: Apart) -> None:
    async with apart.channel(apart.search) as channel:
        stub: Any = evaluation_pb2_grpc.EvaluationServiceStub(channel)
        with pytest.raises(NotImplementedYet) as caught:
            await calling(stub.ListEvaluations(evaluation_pb2.ListEvaluationsRequest()))
    assert caught.value.reason == "UNKNOWN_METHOD"
    assert "this server has keeptune.v1.SearchService" in caught.value.fix
