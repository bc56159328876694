from __future__ import annotations

import json
import os
import subprocess
import sys

_IMPORT = """
import json, sys
import keeptune.agent.health, keeptune.agent.latency, keeptune.agent.sampling
import keeptune.agent.trace_sampling, keeptune.agent.tritonserver, keeptune.agent.updates
status = open("/proc/self/status").read()
rss_kb = int(status.split("VmRSS:")[1].split()[0])
print(json.dumps({"rss_mb": rss_kb / 1024, "modules": sorted(sys.modules)}))
"""
_HEAVY = {"torch", "pandas", "sklearn", "scipy", "sqlalchemy", "onnx", "onnxruntime", "pyarrow"}


def test_what_touches_triton_is_light() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    found = json.loads(answer.stdout)
    assert not _HEAVY & set(found["modules"])
    assert "keeptune.agent.shim.model" not in found["modules"], "it belongs to another environment"
    assert found["rss_mb"] < 80
