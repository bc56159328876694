"""`keeptune study pareto`: the front of several objectives, as a table, in a picture, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import output, plot, verbs
from keeptune.cli.options import json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.results import Front, TrialResult

_WIDTH, _HEIGHT = 60, 16
_BLUE, _GREY = "#2563eb", "#9ca3af"


def add_pareto(group: click.Group) -> None:
    @group.command()
    @click.argument("name", metavar="STUDY")
    @click.option(
        "--reference",
        default="",
        metavar="VALUE,VALUE",
        help="Up to where the hypervolume reaches, a value of each objective."
        "  [default: a tenth behind the worst of the front]",
    )
    @click.option(
        "-o",
        "--output",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Also a picture, PNG or SVG.",
    )
    @json_option
    @pass_session
    def pareto(session: Session, name: str, reference: str, file: Path | None) -> None:
        """The trials that no other beats in every objective, and their hypervolume."""
        full_name = verbs.full_name("study", name)
        values = _values(reference)

        async def work(client: AsyncClient) -> tuple[Front, list[TrialResult]]:
            study = await client.study(full_name)
            return await study.front(values or None), await study.results(
                filter="state = COMPLETED"
            )

        front, trials = session.run(work)
        if len(front.objectives) < 2:
            from keeptune.runtime.errors import FailedPrecondition

            raise FailedPrecondition(
                f"{full_name} has one objective, so that its front is one trial",
                fix=f"keeptune study best {name}",
            )
        if file is not None:
            _draw(front, trials, full_name, file)
        if session.as_json:
            output.print_json(_data(front, file))
            return
        if not front.trials:
            output.note("no trial has completed")
            return
        columns = [("NAME", lambda trial: trial.name)]
        columns += [(each.upper(), _metric(each)) for each in front.objectives]
        columns += [("PARAMETERS", _parameters)]
        output.print_table(front.trials, columns)
        click.echo("\n".join(_picture(front, trials)))
        if front.hypervolume is not None:
            point = ", ".join(
                f"{name} {value:.6g}"
                for name, value in zip(front.objectives, front.reference_point, strict=True)
            )
            output.note(f"hypervolume {front.hypervolume:.6g} up to {point}")
        if file is not None:
            output.note(f"drawn in {file}")


def _values(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",") if each.strip()]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers, such as 0.5,40") from None


def _metric(name: str) -> Any:
    return lambda trial: f"{trial.metrics[name]:.6g}"


def _parameters(trial: TrialResult) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.parameters.items()
    )


def _data(front: Front, file: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "objectives": front.objectives,
        "hypervolume": front.hypervolume,
        "reference_point": front.reference_point,
        "trials": [
            {"name": t.name, "metrics": dict(t.metrics), "parameters": dict(t.parameters)}
            for t in front.trials
        ],
    }
    return found if file is None else found | {"file": str(file)}


def _picture(front: Front, trials: Sequence[TrialResult]) -> list[str]:
    """The first two objectives: o on the front, . the others."""
    first, second = front.objectives[:2]
    on = [(t.metrics[first], t.metrics[second]) for t in front.trials]
    off = [
        (t.metrics[first], t.metrics[second])
        for t in trials
        if first in t.metrics and second in t.metrics
    ]
    finite = [each for each in [*on, *off] if all(map(math.isfinite, each))]
    lows = [min(each[i] for each in finite) for i in (0, 1)]
    spans = [max(each[i] for each in finite) - lows[i] or 1.0 for i in (0, 1)]
    cells = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for sign, points in ((".", off), ("o", on)):
        for x, y in points:
            column = round((x - lows[0]) / spans[0] * (_WIDTH - 1))
            row = round((y - lows[1]) / spans[1] * (_HEIGHT - 1))
            cells[_HEIGHT - 1 - row][column] = sign
    left, right = f"{lows[0]:.4g}", f"{lows[0] + spans[0]:.4g}"
    return [
        "",
        f"{second}, {lows[1]:.4g} to {lows[1] + spans[1]:.4g}",
        *("| " + "".join(line).rstrip() for line in cells),
        "+" + "-" * (_WIDTH + 1),
        f"  {left}{first:^{_WIDTH - len(left) - len(right)}}{right}",
    ]


def _draw(front: Front, trials: Sequence[TrialResult], study: str, file: Path) -> None:
    """The first two objectives. Raises FailedPrecondition where Matplotlib is not installed,
    InvalidInput for other endings."""
    from keeptune.runtime.errors import InvalidInput

    if file.suffix not in (".png", ".svg"):
        raise InvalidInput(
            field="output", problem=f"is {file}", fix="give a name that ends in .png or .svg"
        )
    first, second = front.objectives[:2]
    figure = plot.blank(6, 4.5)
    axis = figure.subplots()
    found = [t for t in trials if first in t.metrics and second in t.metrics]
    for members, colour, label in ((found, _GREY, "completed"), (front.trials, _BLUE, "front")):
        axis.scatter(
            [t.metrics[first] for t in members],
            [t.metrics[second] for t in members],
            s=16,
            color=colour,
            label=label,
        )
    axis.set(xlabel=first, ylabel=second, title=study)
    axis.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
