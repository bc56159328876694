"""Carries out judging jobs, each in a fork of its own.

    python -m keeptune.evaluation.judge_host

reads folders of jobs from stdin, a line each, and answers each with the exit status of the fork
that did it. Loading scikit-learn and its kin takes seconds, a fork milliseconds; and a fork that
crashes takes nothing along. The service's death closes stdin and ends host and fork.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import threading
import traceback
from pathlib import Path

from keeptune.evaluation.job import STDERR_FILE
from keeptune.evaluation.judge import carry_out

_ORPHANED = 3


def main() -> int:
    # What is loaded stays as it is: no fork shall copy it for counting references.
    gc.freeze()
    # Unbuffered: a fork must not inherit lines that were read ahead.
    with os.fdopen(os.dup(0), "rb", buffering=0) as lines:
        for line in lines:
            status = _fork(Path(os.fsdecode(line.rstrip(b"\n"))))
            sys.stdout.write(f"{status}\n")
            sys.stdout.flush()
    return 0


def _fork(folder: Path) -> int:
    """The exit status of a fork that does the job; negative = the signal it died of."""
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must not be forked")
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        stderr = os.open(folder / STDERR_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(stderr, 2)
        # What is said on stdout is the host's word.
        os.dup2(stderr, 1)
        threading.Thread(target=_end_with_service, daemon=True).start()
        carry_out(folder)
        status = 0
    except BaseException:  # noqa: BLE001  (nothing may escape into the host's own loop)
        traceback.print_exc()
    finally:
        os._exit(status)


def _end_with_service() -> None:
    """Waits, without reading, for the other end of stdin to be closed."""
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
