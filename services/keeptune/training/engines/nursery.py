"""The process that workers are forked from: `python -m keeptune.training.engines.nursery FD`.

It has one thread, no gRPC channel and no CUDA context, so forking is safe. Over the socket FD the
service sends one byte with a file descriptor (the new worker's end of its socket pair) for each
worker it wants; the nursery answers with JSON lines: `ready` once, `forked` for each request in
their order, `exited` for each worker that ended. When the service goes, the nursery goes, and the
kernel kills the workers with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_MOST_REQUESTS = 64


def main(control: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake = _wake_on_child()
    from keeptune.training.engines import warm

    warm.warm_training()
    # Objects that live as long as the process need not be copied by the workers' collectors.
    gc.freeze()
    _say(control, {"ready": True, "gpus": warm.gpu_count()})
    later: list[Callable[[], None]] = [warm.warm_export]
    while True:
        timeout = 0.5 if later else None
        ready, _, _ = select.select([control, wake], [], [], timeout)
        if control in ready:
            requests, descriptors, _, _ = socket.recv_fds(control, _MOST_REQUESTS, _MOST_REQUESTS)
            if not requests:
                return
            for descriptor in descriptors:
                _say(control, {"forked": _fork(descriptor, [control, wake])})
        if wake in ready:
            wake.recv(4096)
            _tell_exits(control)
        if not ready and later:
            later.pop()()
            gc.freeze()


def _fork(descriptor: int, inherited: list[socket.socket]) -> int:
    nursery = os.getpid()
    worker = os.fork()
    if worker == 0:
        _be_worker(descriptor, inherited, nursery)
    os.close(descriptor)
    return worker


def _be_worker(descriptor: int, inherited: list[socket.socket], nursery: int) -> NoReturn:
    status = 1
    try:
        die_with_parent(nursery)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in inherited:
            each.close()
        from keeptune.training.engines import worker

        worker.main(socket.socket(fileno=descriptor))
        status = 0
    except BaseException:  # noqa: BLE001  (the last frame of the process: told, then ended)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends, however that ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _wake_on_child() -> socket.socket:
    """A socket that becomes readable when a child has ended."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.detach())
    return reader


def _tell_exits(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            worker, status = os.waitpid(-1, os.WNOHANG)
            if not worker:
                return
            _say(control, {"exited": worker, "status": os.waitstatus_to_exitcode(status)})


def _say(control: socket.socket, message: dict[str, object]) -> None:
    try:
        control.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
