"""The ONNX shim: one file that runs inside Triton's python backend, never inside the agent.

`model.py` is copied to a serving host, as the backend `onnxruntime` or into the version folder of
a python model. It must not be imported here: its imports exist only there.
"""

from pathlib import Path

SHIM = Path(__file__).with_name("model.py")
