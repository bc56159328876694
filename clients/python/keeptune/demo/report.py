"""One page about one run: a picture and a self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import asdict
from typing import TYPE_CHECKING

from keeptune.demo.timeline import rolling_accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from keeptune.demo.timeline import Summary, Timeline

_STATE_COLORS = {
    "SEARCHING": "#cfe8ff",
    "EVALUATING": "#d9c2ff",
    "ROLLING_OUT": "#a9e5a9",
    "BAKING": "#e2f7e2",
}
_BAND_ALPHA = 0.6
_CHANGED, _ALARM, _SWAPPED = "#b3261e", "#8a2be2", "#0a7a33"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem;
       color: #1c2733; }
h1 { font-size: 1.6rem; margin-bottom: 0; } .lead { color: #51606f; margin-top: .3rem; }
img { width: 100%; } table { border-collapse: collapse; margin: 1rem 0; }
td, th { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #e4e9ee;
         vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: #0a7a33; } .bad { color: #b3261e; }
"""


def write_report(folder: Path, timeline: Timeline, summary: Summary) -> tuple[Path, Path]:
    """Writes timeline.png and report.html; the latter holds the picture too."""
    picture = _picture(timeline, summary)
    png = folder / "timeline.png"
    png.write_bytes(picture)
    page = folder / "report.html"
    page.write_text(_page(timeline, summary, picture))
    return png, page


def _picture(timeline: Timeline, summary: Summary) -> bytes:
    # Slow to import, and wanted at the end only.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        3, 1, figsize=(12, 9), sharex=True, height_ratios=(3, 2, 1.6), layout="constrained"
    )
    accuracy, drift, work = axes
    points = rolling_accuracy(timeline.requests)
    accuracy.plot([t for t, _ in points], [a for _, a in points], color="#0b5cad", lw=1.8)
    accuracy.set(ylabel="served accuracy", ylim=(0, 1.05))
    accuracy.set_title(_headline(summary), loc="left", fontsize=12)
    drift.plot(
        [t for t, _ in timeline.drift_levels],
        [max(-6.0, level) for _, level in timeline.drift_levels],
        color="#8a2be2",
        lw=1.4,
    )
    drift.axhline(0, color="#b3261e", lw=1, ls="--")
    drift.annotate("alarm", (1, 0), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    drift.set(ylabel="drift statistic\n(log10 of its limit)")
    for index, (study, trials) in enumerate(timeline.trials.items()):
        values = [v for _, v in trials]
        work.scatter([t for t, _ in trials], values, s=18, label=f"trials of {study}", zorder=3)
        best = [max(values[: i + 1]) for i in range(len(values))]
        work.step([t for t, _ in trials], best, where="post", lw=1, color=f"C{index}")
    work.set(ylabel="trial accuracy", xlabel="seconds")
    if timeline.trials:
        work.legend(loc="lower right", fontsize=8)
    for axis in axes:
        _mark(axis, timeline)
        axis.grid(alpha=0.25)
    for seconds, version in timeline.swaps:
        accuracy.annotate(
            f" version {version} serves",
            (seconds, 0.04),
            color=_SWAPPED,
            fontsize=9,
            rotation=90,
            va="bottom",
        )
    if timeline.camera_changed is not None:
        accuracy.annotate(
            "the camera changed ",
            (timeline.camera_changed, 0.04),
            color=_CHANGED,
            fontsize=9,
            rotation=90,
            # Left of its line, for the alarms follow at once.
            ha="right",
            va="bottom",
        )
    _explain(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def _explain(figure: Figure) -> None:
    """Says below the picture what the bands and the upright lines are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bands = [
        Patch(color=color, alpha=_BAND_ALPHA, label=f"retune: {state.lower().replace('_', ' ')}")
        for state, color in _STATE_COLORS.items()
    ]
    lines = [
        Line2D([], [], color=_CHANGED, lw=1.2, label="camera changed"),
        Line2D([], [], color=_ALARM, lw=1, ls=":", label="agent's signal"),
        Line2D([], [], color=_SWAPPED, lw=1.2, label="version swapped in"),
    ]
    figure.legend(
        handles=[*bands, *lines], loc="outside lower center", ncols=7, fontsize=8, frameon=False
    )


def _mark(axis: Axes, timeline: Timeline) -> None:
    if timeline.camera_changed is not None:
        axis.axvline(timeline.camera_changed, color=_CHANGED, lw=1.2)
    for seconds in timeline.signals:
        axis.axvline(seconds, color=_ALARM, lw=1, ls=":")
    for seconds, _ in timeline.swaps:
        axis.axvline(seconds, color=_SWAPPED, lw=1.2)
    states = [
        (moment.time, moment.text.split(":")[0].split()[-1])
        for moment in timeline.moments
        if moment.kind == "retune"
    ]
    ends = [time for time, _ in states[1:]] + [states[-1][0] if states else 0.0]
    for (start, state), end in zip(states, ends, strict=True):
        if state in _STATE_COLORS:
            axis.axvspan(start, end, color=_STATE_COLORS[state], alpha=_BAND_ALPHA, lw=0)


def _headline(summary: Summary) -> str:
    if not summary.closed:
        return "The loop did not close: " + "; ".join(summary.problems)
    return (
        f"Accuracy {_share(summary.accuracy_before)} before, "
        f"{_share(summary.accuracy_drifted)} with the changed camera, "
        f"{_share(summary.accuracy_after)} after the retune; "
        f"{summary.failed_requests} of {summary.requests} requests failed"
    )


def _page(timeline: Timeline, summary: Summary, picture: bytes) -> str:
    figures = "".join(
        f"<tr><th>{html.escape(key.replace('_', ' '))}</th>"
        f"<td class=number>{html.escape(_cell(value))}</td></tr>"
        for key, value in asdict(summary).items()
    )
    moments = "".join(
        f"<tr><td class=number>{moment.time:.1f} s</td><td>{html.escape(moment.text)}</td></tr>"
        for moment in timeline.moments
    )
    mood = "good" if summary.closed else "bad"
    encoded = base64.b64encode(picture).decode()
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>keeptune demo</title><style>{_STYLE}</style>"
        f"<h1>keeptune demo</h1><p class='lead {mood}'>{html.escape(_headline(summary))}</p>"
        f"<img alt='Timeline of the run' src='data:image/png;base64,{encoded}'>"
        f"<h2>Figures</h2><table>{figures}</table><h2>What happened</h2><table>{moments}</table>"
    )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
