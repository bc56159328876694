"""The trace that an outgoing call belongs to, told to the other side as W3C context.

Apart from `telemetry`, since a bare client has no OpenTelemetry: it is only loaded when traces
are wanted and the role brings it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec


def tracing_is_wanted() -> bool:
    """Whether the environment names an OTLP endpoint, and OpenTelemetry is installed."""
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and any(
            os.environ.get(name)
            for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        )
        and find_spec("opentelemetry") is not None
    )


def inject(metadata: MutableMapping[str, str]) -> None:
    """Adds the present span's context, if there is one."""
    from opentelemetry import propagate

    propagate.inject(metadata)
