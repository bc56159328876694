"""What a policy is tried out with before it is kept."""

from __future__ import annotations

from keeptune.retuning.checks import _corner
from keeptune.v1 import types_pb2


def test_a_point_of_the_space_has_a_value_for_each_domain() -> None:
    space = types_pb2.SearchSpace()
    space.parameters.add(name="rate").float_range.max = 1.0
    space.parameters.add(name="net").graph.max_nodes = 3
    space.parameters.add(name="nothing")
    parameters = _corner(space).parameters
    assert parameters["rate"].WhichOneof("value") == "double_value"
    # The training service says what it thinks of graphs.
    assert parameters["net"].WhichOneof("value") == "graph_value"
    assert set(parameters) == {"rate", "net"}
