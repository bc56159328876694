"""Whole processes: they start, tell, are observed, and end in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import calling, open_channel
from keeptune.v1 import search_pb2, search_pb2_grpc
from tests.integration.runtime.conftest import free_port

PROGRAM = Path(__file__).with_name("served_program.py")
Get = search_pb2.GetStudyRequest


class Process:
    """A served program and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, folder: Path) -> None:
        self.process = process
        self.address = address
        credentials = ClientCredentials.from_file(folder / "credentials")
        self.channel = open_channel(address, credentials=credentials, wait_for_ready=False)
        self.stub: Any = search_pb2_grpc.SearchServiceStub(self.channel)

    async def end(self) -> tuple[int, str, str]:
        """Exit status and what it said, on stdout and stderr."""
        out, err = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def started(
    folder: Path, metrics: str = "", trouble: str = "none", **env: str
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        folder,
        metrics,
        trouble,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parent), **env},
    )
    try:
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        if not address:
            raise RuntimeError((await process.communicate())[1].decode())
        program = Process(process, address, folder)
        yield program
        await program.channel.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path) as program:
        assert (await program.stub.GetStudy(Get(name="studies/x"))).name == "studies/x"
        watch = program.stub.WatchStudy(search_pb2.WatchStudyRequest(study="studies/x"))
        await watch.read()
        program.process.send_signal(number)
        status, out, err = await program.end()
    assert (status, out) == (0, "closed\n")
    assert '"stopped"' in err


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    async with started(tmp_path) as program:
        stuck = asyncio.ensure_future(program.stub.GetStudy(Get(name="studies/slow"), timeout=9))
        await asyncio.sleep(0.3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        program.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert program.process.returncode is None
        program.process.send_signal(signal.SIGTERM)
        status, _, _ = await program.end()
        assert loop.time() - began < 4
        stuck.cancel()
    assert status == 0


async def test_a_loop_that_fails_ends_the_process(tmp_path: Path) -> None:
    async with started(tmp_path, trouble="loop") as program:
        status, out, err = await program.end()
    assert (status, out) == (1, "closed\n")
    assert "the loop is broken" in err
    assert "in the loop search.beat" in err


async def test_metrics_have_their_standard_names(tmp_path: Path) -> None:
    port = free_port()
    async with started(tmp_path, metrics=f"127.0.0.1:{port}") as program:
        await program.stub.GetStudy(Get(name="studies/x"))
        with contextlib.suppress(Exception):
            await calling(program.stub.GetStudy(Get(name="studies/missing")))

        def fetch() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text: str = answer.read().decode()
                return text

        text = await asyncio.to_thread(fetch)
    labels = 'grpc_method="GetStudy",grpc_service="keeptune.v1.SearchService",grpc_type="unary"'
    assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 1.0' in text
    assert f'grpc_server_handled_total{{grpc_code="NOT_FOUND",{labels}}} 1.0' in text
    assert f"grpc_server_started_total{{{labels}}} 2.0" in text
    assert f"grpc_server_handling_seconds_count{{{labels}}} 2.0" in text
    assert "process_resident_memory_bytes" in text


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OTLP collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            name = next(
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.spans += [(name, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_calls_are_traced_under_their_caller(tmp_path: Path) -> None:
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoint = f"http://127.0.0.1:{port}"
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with started(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as program:
        await program.stub.GetStudy(
            Get(name="studies/x"), metadata=(("traceparent", f"00-{trace_id}-{parent}-01"),)
        )
        with contextlib.suppress(Exception):
            await calling(program.stub.GetStudy(Get(name="studies/missing")))
        program.process.send_signal(signal.SIGTERM)
        await program.end()
    await server.stop(0)
    (name, first), (_, second) = sorted(
        collector.spans, key=lambda entry: entry[1].start_time_unix_nano
    )
    assert name == "keeptune-search"
    assert first.name == second.name == "keeptune.v1.SearchService/GetStudy"
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (trace_id, parent)
    attributes = {each.key: each.value for each in second.attributes}
    assert attributes["rpc.system"].string_value == "grpc"
    assert attributes["rpc.method"].string_value == "GetStudy"
    assert attributes["rpc.grpc.status_code"].int_value == 5
