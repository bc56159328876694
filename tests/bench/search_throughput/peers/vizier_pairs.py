"""Vizier's server before SQLite: suggest and complete, by so many workers at once.

    python vizier_pairs.py DATABASE_URL CLIENTS SECONDS    # prints JSON

Run by an interpreter that has google-vizier. The algorithm draws at random, so that what is
measured is the service.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from vizier.service import clients as vizier_clients
from vizier.service import pyvizier, servers

_TICKS = 100.0


def serve(url: str) -> None:
    server = servers.DefaultVizierServer(host="localhost", database_url=url)
    print(server.endpoint, flush=True)
    threading.Event().wait()


def study() -> vizier_clients.Study:
    config = pyvizier.StudyConfig(algorithm="RANDOM_SEARCH")
    root = config.search_space.root
    root.add_float_param("x", -5.0, 10.0)
    root.add_float_param("rate", 1e-5, 1.0, scale_type=pyvizier.ScaleType.LOG)
    root.add_int_param("depth", 1, 9)
    root.add_categorical_param("kind", ["a", "b", "c"])
    goal = pyvizier.ObjectiveMetricGoal.MINIMIZE
    config.metric_information.append(pyvizier.MetricInformation("loss", goal=goal))
    return vizier_clients.Study.from_study_config(config, owner="o", study_id="s")


def worker(number: int, begin: float, end: float, counts: list[int]) -> None:
    mine = study()
    while time.monotonic() < end:
        for suggestion in mine.suggest(count=1, client_id=f"w{number}"):
            suggestion.complete(pyvizier.Measurement(metrics={"loss": random.random()}))
        if begin <= time.monotonic() < end:
            counts[number] += 1


def cpu_of(pid: int) -> float:
    """Seconds of processor time, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    url, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    command = [sys.executable, __file__, "serve", url]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        vizier_clients.environment_variables.server_endpoint = server.stdout.readline().strip()
        study()
        begin = time.monotonic() + 2.0
        counts = [0] * count
        threads = [
            threading.Thread(target=worker, args=(i, begin, begin + seconds, counts), daemon=True)
            for i in range(count)
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, begin - time.monotonic()))
        before = cpu_of(server.pid)
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        after = cpu_of(server.pid)
        for thread in threads:
            thread.join(60)
    finally:
        server.kill()
    print(json.dumps({"pairs": sum(counts), "seconds": seconds, "cpu": after - before}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        main()
