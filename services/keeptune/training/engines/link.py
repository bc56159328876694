"""A worker's end of its conversation with the service."""

from __future__ import annotations

import os
import socket
import threading

from keeptune.training.engines.messages import Job, Message, job_from_line, to_line


class Link:
    """Sends messages; ends the process when the service is gone.

    Whoever holds a lease without a service behind it would only be in the way, so the end of the
    conversation is the end of the worker.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._sending = threading.Lock()
        self._released = threading.Event()

    @property
    def released(self) -> bool:
        """The service wants this worker's place for another training."""
        return self._released.is_set()

    def receive_job(self) -> Job:
        """The first line; from then on a thread listens to the service."""
        line = self._lines.readline()
        if not line:
            os._exit(0)
        job = job_from_line(line)
        threading.Thread(target=self._listen, name="service", daemon=True).start()
        return job

    def send(self, message: Message) -> None:
        try:
            with self._sending:
                self._connection.sendall(to_line(message))
        except OSError:
            os._exit(0)

    def wait(self, seconds: float) -> None:
        """Sleeps, but not past a release."""
        self._released.wait(seconds)

    def _listen(self) -> None:
        while self._lines.readline():
            # The service has but one thing to say after the job.
            self._released.set()
        os._exit(0)
