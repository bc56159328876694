"""What every optimiser keeps to, as checks that anybody can run on theirs.

In a test of a plugin:

    @pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
    def test_conformance(check: conformance.Check) -> None:
        check(METHOD)

Or `python -m keeptune.search.conformance my_package.my_module:METHOD`.

spaces    spaces of several kinds, and a loss on all of them
session   a study as the service runs it: any order of events, interruptions
checks    what is checked
graph_checks  what is checked of methods that declare graphs
"""

from keeptune.search.conformance.checks import CHECKS, Check, name_of
from keeptune.search.conformance.session import ConformanceError, Session
from keeptune.search.conformance.spaces import GRAPHS, SPACES, loss

__all__ = ["CHECKS", "GRAPHS", "SPACES", "Check", "ConformanceError", "Session", "loss", "name_of"]
