"""Optuna's gRPC storage proxy before a database: ask and tell, by so many workers at once.

    python optuna_pairs.py DATABASE_URL CLIENTS SECONDS    # prints JSON

Run by an interpreter that has Optuna (and psycopg for PostgreSQL). The sampler draws at random, so
that what is measured is the storage.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import GrpcStorageProxy, get_storage, run_grpc_proxy_server

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-5, 10),
    "rate": FloatDistribution(1e-5, 1, log=True),
    "depth": IntDistribution(1, 9),
    "kind": CategoricalDistribution(["a", "b", "c"]),
}
_TICKS = 100.0


def serve(url: str, port: int) -> None:
    run_grpc_proxy_server(get_storage(url), host="localhost", port=port)


def worker(port: int, seed: int, begin: float, end: float, counts: list[int]) -> None:
    storage = GrpcStorageProxy(host="localhost", port=port)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    while time.monotonic() < end:
        trial = study.ask(SPACE)
        study.tell(trial, random.random())
        if begin <= time.monotonic() < end:
            counts[seed] += 1


def cpu_of(pid: int) -> float:
    """Seconds of processor time, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    url, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "serve", url, str(port)])
    try:
        storage = GrpcStorageProxy(host="localhost", port=port)
        storage.wait_server_ready(timeout=60)
        optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
        begin = time.monotonic() + 2.0
        counts = [0] * clients
        threads = [
            threading.Thread(target=worker, args=(port, i, begin, begin + seconds, counts))
            for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, begin - time.monotonic()))
        before = cpu_of(server.pid)
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        after = cpu_of(server.pid)
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    print(json.dumps({"pairs": sum(counts), "seconds": seconds, "cpu": after - before}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main()
