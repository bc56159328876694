"""Progress of long work on standard error: live on a terminal, otherwise a line for each change."""

from __future__ import annotations

import sys
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.live import Live


class Progress:
    """Shows one text at a time, and what it was before where that was a step of its own."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._shown = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, text: str) -> None:
        """Something has happened; the line stays."""
        line = f"{datetime.now().astimezone():%H:%M:%S}  {text}"
        if self._live is not None:
            self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)
            # What was under way is over.
            self._live.update("")
        else:
            click.echo(line, err=True)

    def now(self, text: str) -> None:
        """How things stand; on a terminal it replaces what stood there."""
        if text == self._shown:
            return
        self._shown = text
        if self._live is not None:
            from rich.spinner import Spinner
            from rich.text import Text

            shown = Text(text, no_wrap=True, overflow="ellipsis")
            self._live.update(Spinner("dots", shown))
        else:
            self.step(text)
