"""Studies of graphs from one's own code, on a real search service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keeptune.client import Client, Float, Graph, GraphValue, Int, Kind, Node, errors
from tests.fixtures.served import Served

ROOT = Path(__file__).parents[3]
DENSE = Kind({"units": Int(1, 16)}, max_inputs=3)
NET = Graph({"dense": DENSE}, max_nodes=6, shape="dag", skips=True)


def test_a_loop_over_graphs(client: Client) -> None:
    study = client.create_study(
        {"net": NET, "rate": Float(0.0, 1.0)}, metric="loss", goal="minimize", budget=12
    )
    known = GraphValue((Node("dense", {"units": 16}), Node("dense", {"units": 1}, (0, 1))))
    added = study.add({"net": known, "rate": 0.5}, loss=9.0)
    assert added.parameters["net"] == known
    for trial in study.trials(worker="laptop"):
        with trial:
            net = trial.parameters["net"]
            made = [1]
            for node in net:
                made.append(node.parameters["units"] + sum(made[i] for i in node.inputs))
            trial.complete(loss=abs(made[-1] - 20) + trial.parameters["rate"])
    assert study.best.metrics["loss"] < 9
    assert isinstance(study.best.parameters["net"], GraphValue)
    assert study.status().algorithm in ("neat", "genetic-programming", "regularized-evolution")
    seen = {str(result.parameters["net"]) for result in study.results()}
    assert len(seen) > 6


def test_a_wrong_graph_is_refused_with_its_place(client: Client) -> None:
    study = client.create_study({"net": NET}, metric="loss", goal="minimize", budget=5)
    wrong = GraphValue((Node("dense", {"units": 99}),))
    with pytest.raises(errors.InvalidInput) as refused:
        study.add({"net": wrong}, loss=1.0)
    assert "parameters" in refused.value.field
    assert "'units' is 99" in str(refused.value)


def test_the_study_of_the_page(search_server: Served, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "graphs.md").read_text()
    (code,) = re.findall(r"```python\n(# graph_study.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "graph_study.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "graph_study.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "KEEPTUNE_ADDRESS": search_server.address,
            "KEEPTUNE_TOKENS_FILE": str(search_server.tokens_file),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "flatten" in done.stdout
