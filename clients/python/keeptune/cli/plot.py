"""Pictures of a study: the best so far, and how the metric follows each parameter."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from keeptune.client.async_client import AsyncClient
    from keeptune.client.results import TrialResult

_PARAMETERS = 11
_COLUMNS = 3
_BLUE, _GREY, _ORANGE = "#2563eb", "#9ca3af", "#ea580c"


@dataclass(frozen=True)
class Picture:
    """What is drawn: the trials that have the metric, in the order of their numbers."""

    study: str
    metric: str
    maximize: bool
    trials: Sequence[TrialResult]
    log_parameters: frozenset[str]


async def read(client: AsyncClient, study: str, metric: str = "") -> Picture:
    """Raises InvalidInput for a metric that the study does not have, FailedPrecondition when
    there is nothing to draw."""
    from keeptune.runtime.errors import FailedPrecondition, InvalidInput
    from keeptune.v1 import search_pb2, types_pb2

    message = await client.search.GetStudy(search_pb2.GetStudyRequest(name=study))
    metrics = {each.name: each for each in message.metrics}
    chosen = metric or next(iter(metrics))
    if chosen not in metrics:
        raise InvalidInput(
            field="metric", problem=f"is {chosen!r}", fix=f"use one of {', '.join(metrics)}"
        )
    found = await (await client.study(study)).results()
    measured = sorted((t for t in found if chosen in t.metrics), key=lambda t: t.number)
    if not measured:
        raise FailedPrecondition(
            f"no trial of {study} has measured {chosen} yet", fix=f"keeptune study watch {study}"
        )
    log_scale = types_pb2.SCALE_LOG
    return Picture(
        study=study,
        metric=chosen,
        maximize=metrics[chosen].goal != types_pb2.GOAL_MINIMIZE,
        trials=measured,
        log_parameters=frozenset(
            spec.name
            for spec in message.space.parameters
            if log_scale in (spec.float_range.scale, spec.int_range.scale)
        ),
    )


def draw(picture: Picture, file: Path) -> None:
    """Writes a PNG, or for a name that ends in .html a page that needs nothing else.

    Raises FailedPrecondition where Matplotlib is not installed, InvalidInput for other endings.
    """
    from keeptune.runtime.errors import InvalidInput

    if file.suffix not in (".png", ".html"):
        raise InvalidInput(
            field="output", problem=f"is {file}", fix="give a name that ends in .png or .html"
        )
    figure = _figure(picture)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".png":
        figure.savefig(file, dpi=120)
        return
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    file.write_text(_page(picture, drawing.getvalue()))


def blank(width: float, height: float) -> Figure:
    """An empty figure, inches. Raises FailedPrecondition where Matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        from keeptune.runtime.errors import FailedPrecondition

        raise FailedPrecondition(
            "Matplotlib is not installed here", fix="pip install 'keeptune[demo]' or matplotlib"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _figure(picture: Picture) -> Figure:
    names = sorted({name for trial in picture.trials for name in trial.parameters})
    varied = [name for name in names if len({str(v) for v in _values(picture, name)}) > 1]
    shown = varied[:_PARAMETERS]
    rows = math.ceil((len(shown) + 1) / _COLUMNS)
    figure = blank(4.2 * _COLUMNS, 3.2 * rows)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    _draw_best_so_far(axes[0], picture)
    for axis, name in zip(axes[1:], shown, strict=False):
        _draw_effect(axis, picture, name)
    for axis in axes[len(shown) + 1 :]:
        axis.set_axis_off()
    figure.suptitle(picture.study)
    return figure


def _draw_best_so_far(axis: Axes, picture: Picture) -> None:
    from matplotlib.ticker import MaxNLocator

    better = max if picture.maximize else min
    finished = [t for t in picture.trials if t.state == "COMPLETED"]
    pruned = [t for t in picture.trials if t.state != "COMPLETED"]
    for trials, colour, label in ((pruned, _GREY, "pruned"), (finished, _BLUE, "completed")):
        if not trials:
            continue
        axis.scatter(
            [t.number for t in trials],
            [t.metrics[picture.metric] for t in trials],
            s=14,
            color=colour,
            label=label,
        )
    best: list[float] = []
    for trial in finished:
        value = trial.metrics[picture.metric]
        best.append(better(best[-1], value) if best else value)
    axis.step([t.number for t in finished], best, where="post", color=_ORANGE, label="best so far")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="trial", ylabel=picture.metric)
    axis.legend(fontsize=7)


def _draw_effect(axis: Axes, picture: Picture, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    from keeptune.client.values import GraphValue

    pairs = [(t.parameters[name], t) for t in picture.trials if name in t.parameters]
    label = name
    if any(isinstance(value, GraphValue) for value, _ in pairs):
        # Graphs have no order; how many nodes they have does.
        pairs = [(len(value), t) for value, t in pairs]
        label = f"{name} (nodes)"
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v, _ in pairs)
    if numeric:
        places = [float(value) for value, _ in pairs]
        if name in picture.log_parameters:
            axis.set_xscale("log")
        elif all(isinstance(value, int) for value, _ in pairs):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        labels = sorted({str(value) for value, _ in pairs})
        places = [float(labels.index(str(value))) for value, _ in pairs]
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.5, len(labels) - 0.5)
    axis.scatter(
        places,
        [trial.metrics[picture.metric] for _, trial in pairs],
        s=14,
        color=[_BLUE if trial.state == "COMPLETED" else _GREY for _, trial in pairs],
    )
    axis.set(xlabel=label, ylabel=picture.metric)


def _values(picture: Picture, name: str) -> list[Any]:
    return [t.parameters[name] for t in picture.trials if name in t.parameters]


def _page(picture: Picture, drawing: str) -> str:
    order = -1 if picture.maximize else 1
    best = sorted(picture.trials, key=lambda t: order * t.metrics[picture.metric])[:10]
    rows = "".join(
        f"<tr><td>{t.number}</td><td>{t.state}</td><td>{t.metrics[picture.metric]:.6g}</td>"
        f"<td>{html.escape(', '.join(f'{k}={v}' for k, v in t.parameters.items()))}</td></tr>"
        for t in best
    )
    title = html.escape(picture.study)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:15px system-ui;margin:2rem;max-width:72rem}"
        "td,th{padding:.2rem .8rem;text-align:left}svg{max-width:100%;height:auto}</style>"
        f"<h1>{title}</h1>{drawing[drawing.index('<svg') :]}<h2>The best</h2>"
        f"<table><tr><th>trial</th><th>state</th><th>{html.escape(picture.metric)}</th>"
        f"<th>parameters</th></tr>{rows}</table></html>\n"
    )
