"""Health check of a container: asks the server's gRPC health service, exits 0 when it serves.

healthcheck.py HOST:PORT. With HEALTHCHECK_CA set to a file of PEM certificates it speaks TLS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 5.0


def open_channel(target: str) -> grpc.Channel:
    if authority := os.environ.get("HEALTHCHECK_CA"):
        return grpc.secure_channel(
            target, grpc.ssl_channel_credentials(Path(authority).read_bytes())
        )
    return grpc.insecure_channel(target)


def main() -> None:
    with open_channel(sys.argv[1]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            sys.exit(f"no answer: {error}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(f"not serving: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")


if __name__ == "__main__":
    main()
