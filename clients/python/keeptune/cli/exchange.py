"""`keeptune study import` and `export`: results from elsewhere, and a study as a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import output, verbs
from keeptune.cli.options import file_option, json_option
from keeptune.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.imports.adding import Imported


def add_import(group: click.Group) -> None:
    @group.command("import")
    @click.argument(
        "table",
        metavar="[TABLE.csv]",
        required=False,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
    )
    @click.option("--into", default="", metavar="STUDY", help="An existing study.")
    @file_option("new study", required=False)
    @click.option(
        "--from",
        "origin",
        type=click.Choice(["csv", "optuna"]),
        help="[default: csv with a table, else optuna]",
    )
    @click.option("--storage", default="", help="Optuna's, e.g. sqlite:///studies.db")
    @click.option("--study-name", default="", help="The study in Optuna's storage.")
    @click.option("--name", default="", help="Of the new study.  [default: Optuna's]")
    @click.option(
        "--metric", "metrics", multiple=True, help="Name of an objective, in Optuna's order."
    )
    @click.option("--budget", default=100, help="Further trials of the study made after Optuna's.")
    @click.option(
        "--ignore", multiple=True, metavar="COLUMN", help="Pass over a column of the table."
    )
    @json_option
    @pass_session
    def import_(
        session: Session, /, table: Path | None, origin: str | None, **options: Any
    ) -> None:
        """Known results into a study, old or new; run again it adds what is new alone.

        \b
        From a table, a row a trial, a column a parameter or metric:
            keeptune study import results.csv --into digits
            keeptune study import results.csv -f study.yaml
        From Optuna:
            keeptune study import --from optuna --storage sqlite:///studies.db --study-name digits
        """
        if (origin or ("csv" if table else "optuna")) == "csv":
            if table is None:
                raise click.UsageError("give the table, e.g. results.csv")
            _refuse(options, "storage", "study_name", "name", "metrics")
            done = session.run(_csv(table, options))
        else:
            if table is not None or not options["storage"] or not options["study_name"]:
                raise click.UsageError("give --storage and --study-name, and no table")
            _refuse(options, "ignore")
            done = session.run(_optuna(options))
        _print(session, done)


def _refuse(options: dict[str, Any], *names: str) -> None:
    for name in names:
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-').rstrip('s')} does not go with this")


def _csv(table: Path, options: dict[str, Any]) -> Any:
    async def work(client: AsyncClient) -> Imported:
        return await client.import_csv(
            table, into=options["into"], study=options["file"], ignore=options["ignore"]
        )

    return work


def _optuna(options: dict[str, Any]) -> Any:
    async def work(client: AsyncClient) -> Imported:
        from keeptune.client.imports import importing, optuna_study

        return await importing.from_optuna(
            client.search,
            optuna_study.load(options["storage"], options["study_name"]),
            into=options["into"],
            name=options["name"],
            manifest_file=options["file"],
            metrics=options["metrics"],
            budget=options["budget"],
        )

    return work


def _print(session: Session, done: Imported) -> None:
    if session.as_json:
        from dataclasses import asdict

        output.print_json(asdict(done))
        return
    click.echo(done.study)
    for text in done.notes:
        output.note(f"note: {text}")
    left = f", {done.skipped} that had not ended were left out" if done.skipped else ""
    there = f", {done.present} were there already" if done.present else ""
    output.note(f"{done.added} trials added{there}{left}")


def add_export(group: click.Group) -> None:
    @group.command()
    @click.argument("name", metavar="STUDY")
    @click.option("--csv", is_flag=True, expose_value=False, help="As CSV, as always so far.")
    @click.option(
        "-o",
        "--output",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="[default: standard output]",
    )
    @pass_session
    def export(session: Session, name: str, file: Path | None) -> None:
        """The trials of a study as a table, a row a trial, as `import` takes it."""
        from keeptune.client.imports import csv_table

        full_name = verbs.full_name("study", name)

        async def work(client: AsyncClient) -> Any:
            from keeptune.v1 import search_pb2

            message = await client.search.GetStudy(search_pb2.GetStudyRequest(name=full_name))
            return message, await (await client.study(name)).results()

        message, trials = session.run(work)
        if file is None:
            csv_table.write(message, trials, sys.stdout)
            return
        with file.open("w", newline="", encoding="utf-8") as target:
            csv_table.write(message, trials, target)
        output.note(f"{len(trials)} trials in {file}")
