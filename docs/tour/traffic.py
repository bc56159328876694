"""Sends digits to Triton, 50 a second, and tells the agent what they were a second later.

After --calm requests somebody knocks against the camera. Runs until Ctrl-C.
"""

import argparse
import time
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from keeptune.v1 import agent_pb2, agent_pb2_grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--calm", type=int, default=2000, help="requests before the camera changes")
parser.add_argument("--requests", type=int, default=0, help="stop after so many; 0: never")
parser.add_argument("--triton", default="127.0.0.1:8001")
parser.add_argument("--agent", default="127.0.0.1:7320")
parser.add_argument("--credentials", type=Path, default="agent/credentials")
options = parser.parse_args()

served = np.load("served.npz")
triton = InferenceServerClient(options.triton)
agent = agent_pb2_grpc.AgentServiceStub(grpc.insecure_channel(options.agent))
# The role "worker" may report outcomes, and change nothing.
token = dict(line.split() for line in options.credentials.open() if line[0] != "#")["worker"]
rng = np.random.default_rng()
run = int(time.time())  # a request id is never used twice


def camera(image: NDArray[np.float32], *, knocked: bool) -> NDArray[np.float32]:
    """What it makes of a digit [1, 1, 8, 8]; knocked, it hangs lower and a lamp is gone."""
    seen = 0.3 * np.roll(image, 1, axis=2) + 7.5 if knocked else image
    return np.clip(seen + rng.normal(0, 0.25, image.shape), 0, 16).astype(np.float32)


def ask(request_id: str, image: NDArray[np.float32]) -> tuple[str, str]:
    """The digit that Triton sees in an image [1, 1, 8, 8], and the version that answered."""
    tensor = InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    answer = triton.infer("digits", [tensor], request_id=request_id)
    digit = str(answer.as_numpy("probabilities")[0].argmax())
    return digit, answer.get_response().model_version


def tell(truth: dict[str, str]) -> None:
    """The agent joins each label with the request that it sampled under the same id."""
    outcomes = [agent_pb2.Outcome(request_id=each, label=label) for each, label in truth.items()]
    agent.RecordOutcomes(
        agent_pb2.RecordOutcomesRequest(model="models/digits", outcomes=outcomes),
        metadata=(("authorization", f"Bearer {token}"),),
        timeout=10,
        wait_for_ready=True,
    )


right, truth, start = [], {}, time.monotonic()
try:
    for count in range(options.requests or 10**9):
        row = int(rng.integers(len(served["y"])))
        if count == options.calm:
            print("somebody knocks against the camera")
        image = camera(served["x"][[row]], knocked=count >= options.calm)
        digit, version = ask(f"{run}-{count}", image)
        truth[f"{run}-{count}"] = str(served["y"][row])
        right.append(digit == str(served["y"][row]))
        if len(truth) == 50:
            tell(truth)
            truth = {}
        if len(right) % 250 == 0:
            share = sum(right[-250:]) / 250
            print(f"{count + 1:6} requests, version {version}, accuracy {share:.3f}", flush=True)
        time.sleep(max(0.0, start + (count + 1) / 50 - time.monotonic()))
except KeyboardInterrupt:
    pass
