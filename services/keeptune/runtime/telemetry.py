"""Prometheus metrics and OpenTelemetry traces, by their standard names.

Metrics are those of go-grpc-prometheus. Traces are on when the environment names an OTLP endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`); the W3C context travels in
the calls' metadata.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import grpc
from opentelemetry import propagate, trace
from prometheus_client import Counter, Histogram, start_http_server

from keeptune.runtime.addresses import parse_address
from keeptune.runtime.errors import FailedPrecondition
from keeptune.runtime.propagation import tracing_is_wanted

_LABELS = ("grpc_type", "grpc_service", "grpc_method")

_started = Counter("grpc_server_started_total", "Calls begun.", _LABELS)
_handled = Counter("grpc_server_handled_total", "Calls ended.", (*_LABELS, "grpc_code"))
_received = Counter("grpc_server_msg_received_total", "Messages received in streams.", _LABELS)
_sent = Counter("grpc_server_msg_sent_total", "Messages sent in streams.", _LABELS)
_seconds = Histogram(
    "grpc_server_handling_seconds",
    "Time from a call's start to its end.",
    _LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)


class MethodMetrics:
    """The series of one method, looked up once."""

    def __init__(self, method: str, kind: str) -> None:
        service, _, name = method.lstrip("/").partition("/")
        labels = (kind, service, name)
        self.started: Callable[[], None] = _started.labels(*labels).inc
        self.received: Callable[[], None] = _received.labels(*labels).inc
        self.sent: Callable[[], None] = _sent.labels(*labels).inc
        self.took: Callable[[float], None] = _seconds.labels(*labels).observe
        self._handled = cache(lambda code: _handled.labels(*labels, code))

    def handled(self, code: grpc.StatusCode) -> None:
        self._handled(code.name if code is not grpc.StatusCode.OK else "OK").inc()


def serve_metrics(listen: str) -> Callable[[], None]:
    """Answers `GET /metrics` at `host:port`; returns what stops it."""
    address = parse_address(listen, field="metrics_listen")
    try:
        server, thread = start_http_server(address.port, address.host)
    except OSError as error:
        raise FailedPrecondition(
            f"metrics cannot be served at {listen}: {error.strerror}",
            fix="choose another metrics_listen, or stop what holds the port",
            reason="ADDRESS_IN_USE",
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def start_tracing(program: str) -> Callable[[], None]:
    """Sends spans to the OTLP endpoint of the environment, if there is one.

    Returns what flushes and stops it. The SDK is only loaded when it is wanted.
    """
    if not tracing_is_wanted():
        return lambda: None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME") or f"keeptune-{program}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


@contextmanager
def server_span(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[trace.Span]:
    """A span for a call being served, a child of the caller's."""
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    service, _, name = method.lstrip("/").partition("/")
    with trace.get_tracer("keeptune").start_as_current_span(
        f"{service}/{name}",
        context=propagate.extract(carrier),
        kind=trace.SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def end_span(span: trace.Span, code: grpc.StatusCode, ids: Mapping[str, str]) -> None:
    """`ids`: what the call belonged to, so that a trace can be found by its study or retune."""
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    span.set_attributes({f"keeptune.{name}": value for name, value in ids.items()})
    if code is not grpc.StatusCode.OK:
        span.set_status(trace.Status(trace.StatusCode.ERROR, code.name))
