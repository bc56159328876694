"""`keeptune demo`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

_REPORT = "demo-report"


@click.command()
@click.option("--seed", default=0, show_default=True, help="Of the data, the study, the traffic.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures there; - is standard output.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(_REPORT),
    show_default=True,
    help="Folder of the picture and the HTML page.",
)
@click.option("--rate", default=50.0, show_default=True, help="Requests a second.")
@click.option("--sampling-rate", default=0.75, show_default=True, help="Share that is sampled.")
@click.option("--calm-requests", default=3000, show_default=True, help="Before the camera changes.")
@click.option("--trials", default=24, show_default=True, help="Of each study.")
@click.option("--apart", is_flag=True, help="Each service in a process of its own.")
@click.option("--keep", is_flag=True, help="Keep the folder with all data and logs.")
@click.option(
    "--serving-host",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="KEEPTUNE_SERVING_HOST",
    default=Path(".serving-host"),
    show_default=True,
    help="Environment that Triton runs in; `make setup` builds it.",
)
def demo(
    seed: int,
    json_path: Path | None,
    report: Path,
    rate: float,
    sampling_rate: float,
    calm_requests: int,
    trials: int,
    apart: bool,
    keep: bool,
    serving_host: Path,
) -> None:
    """The loop at work: tune a digit classifier, serve it on Triton, break the camera, recover.

    Starts `keeptune dev`, a real Triton and the agent on this machine, takes about five minutes
    and ends with a report. The exit status is 0 only if the loop closed by itself.
    """
    # Slow to import; `keeptune --help` should not pay for it.
    from rich.console import Console

    from keeptune.demo.report import write_report
    from keeptune.demo.stage import build_stage
    from keeptune.demo.story import Script, Story

    # With more threads than cores, everything on this machine gets slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console = Console(stderr=True)
    # Elsewhere it takes every line for 80 columns wide, and breaks words.
    console.soft_wrap = not console.is_terminal
    folder = Path(tempfile.mkdtemp(prefix="keeptune-demo-"))
    story = Story(
        build_stage(folder, serving_host=serving_host.resolve(), apart=apart),
        Script(
            seed=seed,
            rate=rate,
            sampling_rate=sampling_rate,
            calm_requests=calm_requests,
            trials=trials,
        ),
        console,
    )
    summary = asyncio.run(story.run())
    report.mkdir(parents=True, exist_ok=True)
    picture, page = write_report(report, story.timeline, summary)
    figures = json.dumps(asdict(summary), indent=2)
    if json_path is not None and str(json_path) != "-":
        json_path.write_text(figures + "\n")
    if json_path is not None and str(json_path) == "-":
        click.echo(figures)
    else:
        for key, value in asdict(summary).items():
            console.print(f"  {key.replace('_', ' '):28} {value}", highlight=False)
    console.print(f"\npicture {picture}\nreport  {page}", highlight=False)
    if keep or not summary.closed:
        console.print(f"data and logs are kept in {folder}", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if not summary.closed:
        console.print("[bold red]the loop did not close[/]: " + "; ".join(summary.problems))
        sys.exit(1)
    console.print("[bold green]the loop closed by itself[/]")
