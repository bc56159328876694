"""The terminal while the demo runs: live on a terminal, a line at a time elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from keeptune.v1 import retuning_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from keeptune.demo.timeline import Moment, Timeline
    from keeptune.demo.watching import Progress, View

_STYLES = {"act": "bold", "signal": "bold red", "retune": "cyan", "swap": "bold green"}
_BAR = 30


class Screen:
    """Shows what the timeline and the view hold; `console` writes to stderr."""

    def __init__(self, console: Console, timeline: Timeline, clock: Callable[[], float]) -> None:
        self.console = console
        self._timeline = timeline
        self._clock = clock
        self._printed = 0

    async def run(self, view: Callable[[], View | None]) -> None:
        """Until cancelled."""
        if not self.console.is_terminal:
            beat = 0
            while True:
                self._print_moments()
                beat += 1
                if beat % 20 == 0:
                    self.console.print(self._line(view()), highlight=False)
                await asyncio.sleep(0.5)
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while True:
                self._print_moments()
                live.update(self._panel(view()))
                await asyncio.sleep(0.25)

    def flush(self) -> None:
        self._print_moments()

    def _print_moments(self) -> None:
        for moment in self._timeline.moments[self._printed :]:
            self.console.print(_moment_line(moment), highlight=False)
        self._printed = len(self._timeline.moments)

    def _line(self, view: View | None) -> Text:
        parts = [f"{self._clock():6.1f} s   {len(self._timeline.requests)} requests"]
        accuracy = self._timeline.recent_accuracy()
        if accuracy is not None:
            parts.append(f"accuracy {accuracy:.3f}")
        level = _drift_level(self._timeline)
        if level is not None and accuracy is not None:
            parts.append(f"drift {level:+.1f} (alarm at 0)")
        parts.extend(_work(view, self._timeline))
        return Text(" | ".join(parts), style="dim")

    def _panel(self, view: View | None) -> Panel:
        table = Table.grid(padding=(0, 2))
        table.add_row("time", f"{self._clock():.0f} s")
        if view is not None and view.retune.name:
            state = retuning_pb2.RetuneState.Name(view.retune.state)
            table.add_row("retune", f"{view.retune.name}  {state.removeprefix('RETUNE_STATE_')}")
            table.add_row("", Text(view.retune.reason, style="dim"))
        if view is not None and (progress := view.studies.get(view.retune.study)) is not None:
            table.add_row("study", study_text(progress, _values(view, self._timeline)))
        accuracy = self._timeline.recent_accuracy()
        if accuracy is not None:
            failed = sum(1 for r in self._timeline.requests if r.failure)
            table.add_row("requests", f"{len(self._timeline.requests)} served, {failed} failed")
            table.add_row("accuracy", f"{_bar(accuracy)} {accuracy:.3f}")
        level = _drift_level(self._timeline)
        if level is not None and accuracy is not None:
            share = min(1.0, max(0.0, 1 + level / 5))
            table.add_row("drift", f"{_bar(share)} {level:+.2f}  (0 = alarm)")
        return Panel(Group(table), title="keeptune demo", border_style="cyan")


def _moment_line(moment: Moment) -> Text:
    return Text(f"{moment.time:6.1f} s  {moment.text}", style=_STYLES.get(moment.kind, ""))


def _work(view: View | None, timeline: Timeline) -> list[str]:
    """What the newest retune is at, where that takes long."""
    if view is None:
        return []
    progress = view.studies.get(view.retune.study)
    if progress is not None:
        return [study_text(progress, _values(view, timeline))]
    if view.retune.state == retuning_pb2.RETUNE_STATE_REQUESTED and view.retune.reason:
        # The way out that follows is for those whose requests nobody labels.
        return [f"waiting: {view.retune.reason.partition('; ')[0]}"]
    return []


def _values(view: View, timeline: Timeline) -> list[float]:
    return [value for _, value in timeline.trials.get(view.retune.study, [])]


def study_text(progress: Progress, values: list[float]) -> str:
    """The counter of a study, and the best of the values that its trials reached."""
    text = f"{progress.finished}/{progress.max_trials} trials, {progress.pruned} pruned"
    return f"{text}, best {max(values):.3f}" if values else text


def _drift_level(timeline: Timeline) -> float | None:
    return timeline.drift_levels[-1][1] if timeline.drift_levels else None


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return "█" * full + "░" * (_BAR - full)
