"""Orders as they come over the link: what they ask for, and which were answered already."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf import json_format

from keeptune.agent import reconcile
from keeptune.agent.durable_file import write_durably
from keeptune.runtime import names
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import deployment_pb2

_KEPT = 256


def action_of(order: deployment_pb2.Order) -> reconcile.Action:
    """Raises InvalidInput for an order that this agent does not know or that names no version."""
    match order.WhichOneof("action"):
        case "stage":
            return reconcile.Stage(_number(order.stage.version.name, "stage.version.name"))
        case "promote":
            seconds = order.promote.bake.ToTimedelta().total_seconds()
            return reconcile.Promote(_number(order.promote.version, "promote.version"), seconds)
        case "finish":
            return reconcile.Finish(_number(order.finish.version, "finish.version"))
        case "roll_back":
            to_version = order.roll_back.to_version
            return reconcile.RollBack(
                _number(order.roll_back.version, "roll_back.version"),
                _number(to_version, "roll_back.to_version") if to_version else 0,
                order.roll_back.reason,
            )
        case "configure":
            return reconcile.Configure()
        case "remove":
            return reconcile.Remove()
        case _:
            raise InvalidInput(
                field="order.action",
                problem="is of a kind that this agent does not know",
                fix="update the agent",
            )


def _number(version: str, field: str) -> int:
    return names.parse_version(version, field=field)[1]


class OrderLedger:
    """The answers to orders, durable: an order that comes again gets the answer it got."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, deployment_pb2.OrderResult] = {}
        self.last_sequence = 0
        if path.exists():
            content = json.loads(path.read_text())
            self.last_sequence = content["last_sequence"]
            for text in content["answers"]:
                result = json_format.Parse(text, deployment_pb2.OrderResult())
                self._answers[result.order_id] = result

    def answer(self, order: deployment_pb2.Order) -> deployment_pb2.OrderResult | None:
        """What was answered; None for an order that is to be carried out."""
        there = self._answers.get(order.id)
        if there is not None or order.sequence > self.last_sequence:
            return there
        return deployment_pb2.OrderResult(
            order_id=order.id,
            sequence=order.sequence,
            state=deployment_pb2.ORDER_STATE_FAILED,
            reason=f"order {self.last_sequence} was carried out since; this one is void",
        )

    def put(self, result: deployment_pb2.OrderResult) -> None:
        """Durable when it returns."""
        self._answers[result.order_id] = result
        while len(self._answers) > _KEPT:
            self._answers.pop(next(iter(self._answers)))
        self.last_sequence = max(self.last_sequence, result.sequence)
        content = {
            "last_sequence": self.last_sequence,
            "answers": [
                json_format.MessageToJson(answer, indent=None) for answer in self._answers.values()
            ],
        }
        write_durably(self._path, json.dumps(content, indent=1).encode())
