"""`keeptune study importance`, `dependence` and `outlook`: what a study has taught."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import output, verbs
from keeptune.cli.options import json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.insight import Dependence, Share

_BAR = 30
_CURVE = 40
# Interactions that have less than this are not worth a line.
_SMALLEST_SHARE = 0.005

metric_option = click.option("--metric", default="", help="[default: the first objective]")


def add_importance(group: click.Group) -> None:
    @group.command()
    @click.argument("name", metavar="STUDY")
    @metric_option
    @json_option
    @pass_session
    def importance(session: Session, name: str, metric: str) -> None:
        """Which parameters matter: shares of the metric's variance, with 80 % intervals."""
        from keeptune.client import insight
        from keeptune.v1 import search_pb2

        request = search_pb2.GetParameterImportanceRequest(
            study=verbs.full_name("study", name), metric=metric
        )
        message = _ask(session, lambda client: client.search.GetParameterImportance(request))
        if message is None:
            return
        found = insight.importance(message)
        pairs = [each for each in found.interactions if each.value >= _SMALLEST_SHARE]
        output.print_table(
            [*found.parameters, *pairs],
            [
                ("PARAMETER", lambda share: " * ".join(share.parameters)),
                ("SHARE", lambda share: f"{100 * share.value:.1f} %"),
                ("80 %", lambda share: f"{100 * share.low:.1f} to {100 * share.high:.1f} %"),
                (found.metric.upper(), _bar),
            ],
        )
        output.note(f"{found.trials} trials; {found.remark}")


def add_dependence(group: click.Group) -> None:
    @group.command()
    @click.argument("name", metavar="STUDY")
    @click.argument("parameters", metavar="PARAMETER [PARAMETER]", nargs=-1, required=True)
    @metric_option
    @click.option(
        "--points", default=0, help="Values of each parameter.  [default: 20 of one, 10 of two]"
    )
    @json_option
    @pass_session
    def dependence(
        session: Session, name: str, parameters: tuple[str, ...], metric: str, points: int
    ) -> None:
        """How the metric follows one parameter, or two, all others averaged."""
        from keeptune.client import insight
        from keeptune.v1 import search_pb2

        request = search_pb2.GetPartialDependenceRequest(
            study=verbs.full_name("study", name),
            parameters=parameters,
            metric=metric,
            points=points,
        )
        message = _ask(session, lambda client: client.search.GetPartialDependence(request))
        if message is None:
            return
        found = insight.dependence(message)
        (_print_curve if len(found.axes) == 1 else _print_matrix)(found)
        output.note(f"{found.trials} trials; {found.remark}")


def add_outlook(group: click.Group) -> None:
    @group.command()
    @click.argument("name", metavar="STUDY")
    @metric_option
    @click.option("--trials", default=0, help="Further trials.  [default: what is left]")
    @click.option(
        "--tolerance",
        type=float,
        help="What an improvement must exceed.  [default: 1 % of the distance best to median]",
    )
    @json_option
    @pass_session
    def outlook(
        session: Session, name: str, metric: str, trials: int, tolerance: float | None
    ) -> None:
        """Whether further trials will help, and why one should think so."""
        from keeptune.v1 import search_pb2

        request = search_pb2.GetStudyOutlookRequest(
            study=verbs.full_name("study", name), metric=metric, trials=trials, tolerance=tolerance
        )
        message = _ask(session, lambda client: client.search.GetStudyOutlook(request))
        if message is None:
            return
        click.echo(message.verdict)
        for line in message.evidence:
            click.echo(f"  {line}")
        if message.HasField("by_model"):
            click.echo(f"  {message.by_model.remark}")
        click.echo(f"  {message.best_trial}")


def _ask(session: Session, call: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    """The answer; None once it has been printed as JSON."""
    from keeptune.client.resources import as_data

    async def work(client: AsyncClient) -> Any:
        return await call(client)

    message = session.run(work)
    if not session.as_json:
        return message
    output.print_json(as_data(message))
    return None


def _bar(share: Share) -> str:
    """# up to the share, - up to the upper end of its interval."""
    sure, possible = round(_BAR * share.value), round(_BAR * share.high)
    return "#" * sure + "-" * (possible - sure)


def _print_curve(found: Dependence) -> None:
    ((name, places),) = found.axes
    least, most = min(found.low), max(found.high)
    scale = (_CURVE - 1) / (most - least) if most > least else 0.0

    def curve(row: int) -> str:
        low, mean, high = (
            round((each[row] - least) * scale) for each in (found.low, found.mean, found.high)
        )
        return " " * low + "-" * (mean - low) + "o" + "-" * (high - mean)

    output.print_table(
        range(len(places)),
        [
            (name.upper(), lambda row: _text(places[row])),
            (found.metric.upper(), lambda row: _text(found.mean[row])),
            ("80 %", lambda row: f"{_text(found.low[row])} to {_text(found.high[row])}"),
            (f"{_text(least)} TO {_text(most)}", curve),
        ],
    )


def _print_matrix(found: Dependence) -> None:
    (first, rows), (second, columns) = found.axes

    def cell(column: int) -> Callable[[int], str]:
        return lambda row: _text(found.mean[row * len(columns) + column])

    output.print_table(
        range(len(rows)),
        [
            (f"{first.upper()} \\ {second.upper()}", lambda row: _text(rows[row])),
            *((_text(place), cell(column)) for column, place in enumerate(columns)),
        ],
    )


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
