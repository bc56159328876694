"""Latency quantiles of served versions, from Triton's metrics page."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from keeptune.agent.triton_endpoint import TritonEndpoint
from keeptune.agent.triton_model import TritonUnavailable

_LINE: Final = re.compile(
    r'^nv_inference_request_summary_us\{model="([^"]*)",version="(\d+)",'
    r'(?:[^}]*,)?quantile="([^"]+)"\} (\S+)$',
    re.MULTILINE,
)
_MAX_PAGE: Final = 16 * 2**20


@dataclass(frozen=True)
class LatencyQuantiles:
    """Of the requests of about the last minute, from receipt to response inside the server."""

    model: str
    version: int
    p50_ms: float
    """NaN while no request came."""
    p99_ms: float


async def latency_quantiles(
    endpoint: TritonEndpoint, seconds: float = 10.0
) -> tuple[LatencyQuantiles, ...]:
    """Reads the quantiles of all loaded versions. Raises TritonUnavailable when it cannot."""
    return parse_quantiles(await _get(endpoint, seconds))


def parse_quantiles(page: str) -> tuple[LatencyQuantiles, ...]:
    """The quantiles on a page in Prometheus' text format."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for model, version, quantile, value in _LINE.findall(page):
        found.setdefault((model, int(version)), {})[quantile] = float(value) / 1000
    nan = float("nan")
    return tuple(
        LatencyQuantiles(model, version, values.get("0.5", nan), values.get("0.99", nan))
        for (model, version), values in found.items()
    )


async def _get(endpoint: TritonEndpoint, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.metrics_port)
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: triton\r\nConnection: close\r\n\r\n")
                answer = await reader.read(_MAX_PAGE)
                while chunk := await reader.read(_MAX_PAGE - len(answer)):
                    answer += chunk
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise TritonUnavailable(f"Triton's metrics do not answer: {error}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise TritonUnavailable(f"Triton's metrics answer {head[:80]!r}")
    return body.decode()
