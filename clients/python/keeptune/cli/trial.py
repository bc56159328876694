"""`keeptune trial`."""

from __future__ import annotations

import click

from keeptune.cli import output, verbs

COLUMNS = (
    ("NAME", lambda m: m.name),
    ("STATE", output.state()),
    ("METRICS", lambda m: output.metrics(m.final_measurement)),
    ("PARAMETERS", lambda m: output.parameters(m.parameters)),
    ("REASON", lambda m: m.reason),
)


@click.group()
def trial() -> None:
    """The trials of a study; one is named STUDY/NUMBER."""


verbs.add_list(trial, "trial", COLUMNS)
verbs.add_show(trial, "trial")
