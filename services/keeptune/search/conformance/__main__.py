"""`python -m keeptune.search.conformance module:METHOD`: a line a check, 1 = there are faults."""

from __future__ import annotations

import importlib
import sys
import traceback

from keeptune.search.conformance.checks import CHECKS, name_of
from keeptune.search.optimizers.base import Method


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or ":" not in arguments[0]:
        print(__doc__, file=sys.stderr)
        return 2
    module, _, attribute = arguments[0].partition(":")
    sys.path.insert(0, "")
    method = getattr(importlib.import_module(module), attribute)
    if not isinstance(method, Method):
        print(f"{arguments[0]} is a {type(method).__name__}, not a Method", file=sys.stderr)
        return 2
    faults = 0
    for check in CHECKS:
        try:
            check(method)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a fault
            faults += 1
            print(f"FAULT {name_of(check)}: {error or type(error).__name__}")
            traceback.print_exc()
        else:
            print(f"ok    {name_of(check)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
