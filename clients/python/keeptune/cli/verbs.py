"""The verbs that every group has alike: list, show, watch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keeptune.cli import failures, output
from keeptune.cli.options import json_option, list_options
from keeptune.cli.session import Session, pass_session
from keeptune.client.nouns import BY_NOUN

if TYPE_CHECKING:
    from keeptune.cli.output import Column
    from keeptune.client.async_client import AsyncClient

# States in which a resource stays; the second group is no success.
_ENDED_WELL = ("SUCCEEDED", "COMPLETED", "STOPPED")
_ENDED_BADLY = ("FAILED", "CANCELLED", "REJECTED", "ROLLED_BACK")


def add_list(group: click.Group, noun: str, columns: Sequence[Column], name: str = "list") -> None:
    """`list`, below a PARENT where the resources have one; filtered where the service can."""

    kind = BY_NOUN[noun]

    def run(session: Session, parent: str, options: dict[str, Any]) -> None:
        async def work(client: AsyncClient) -> list[Any]:
            from keeptune.client.resources import list_all

            return [item async for item in list_all(client, kind, parent=parent, **options)]

        found = session.run(work)
        if session.as_json:
            from keeptune.client.resources import as_data

            output.print_json([as_data(item) for item in found])
        else:
            output.print_table(found, columns)

    if kind.parent:

        @group.command(name, help=f"The {kind.collection} of a {kind.parent}.")
        @click.argument("parent", metavar=kind.parent.upper())
        @list_options
        @json_option
        @pass_session
        def list_below(session: Session, /, parent: str, **options: Any) -> None:
            run(session, parent, options)

    else:

        @group.command(name, help=f"The {kind.collection} there are.")
        @list_options
        @json_option
        @pass_session
        def list_all_of_them(session: Session, /, **options: Any) -> None:
            run(session, "", options)


def add_show(group: click.Group, noun: str, name: str = "show") -> None:
    """`show NAME`: the whole resource."""

    kind = BY_NOUN[noun]

    @group.command(name, help=f"One {noun}, whole.")
    @click.argument("name", metavar=noun.upper())
    @json_option
    @pass_session
    def show(session: Session, name: str) -> None:
        async def work(client: AsyncClient) -> Any:
            from keeptune.client.resources import fetch

            return await fetch(client, kind, name)

        output.print_message(session.run(work), as_json=session.as_json)


def add_watch(group: click.Group, noun: str, line: Callable[[Any], str]) -> None:
    """`watch NAME`: what happens, until the resource has ended.

    `line` makes one line of an event ("" = nothing to say).
    """

    kind = BY_NOUN[noun]

    @group.command(help=f"What happens to a {noun}, until it has ended.")
    @click.argument("name", metavar=noun.upper())
    @click.option(
        "--revision", default=0, help="Only what came after this revision; 0 = all that happened."
    )
    @json_option
    @pass_session
    def watch(session: Session, name: str, revision: int) -> None:
        async def work(client: AsyncClient) -> str:
            from keeptune.client.resources import watch as events

            lines = EventLines(line, as_json=session.as_json)
            async for event in events(
                client, kind, name, revision=revision, patience=client.patience
            ):
                lines.show(event)
                ended = end_of(event, noun)
                if ended and not await _goes_on(client, kind, name):
                    return ended
            return ""

        finish(session.run(work))


async def _goes_on(client: AsyncClient, kind: Any, name: str) -> bool:
    """Whether what an old event says to have ended lives again (a study with more budget)."""
    from keeptune.client.resources import fetch
    from keeptune.client.results import enum_name

    return enum_name(await fetch(client, kind, name)) not in (*_ENDED_WELL, *_ENDED_BADLY)


class EventLines:
    """Events on standard output, by what `line` makes of each ("" = nothing to say).

    A change of a resource that leaves its line as it was is passed over, except as JSON.
    """

    def __init__(self, line: Callable[[Any], str], *, as_json: bool) -> None:
        self._line = line
        self._as_json = as_json
        self._said: dict[str, str] = {}

    def show(self, event: Any) -> None:
        if self._as_json:
            from keeptune.client.resources import as_data

            output.print_json_line(as_data(event))
            return
        said = self._line(event)
        at, resource = datetime.now(UTC), _resource(event)
        if resource is not None:
            at = resource.metadata.update_time.ToDatetime(tzinfo=UTC)
            if self._said.get(resource.name) == said:
                return
            self._said[resource.name] = said
        if said:
            click.echo(f"{at.astimezone():%H:%M:%S}  {said}")


def _resource(event: Any) -> Any:
    """The resource that an event tells of; None where it tells of something else."""
    for field, value in event.ListFields():
        if field.message_type and "metadata" in field.message_type.fields_by_name:
            return value
    return None


def end_of(event: Any, field: str) -> str:
    """The final state that an event tells of its resource; empty when it goes on."""
    from keeptune.client.results import enum_name

    if not event.HasField(field):
        return ""
    found = enum_name(getattr(event, field))
    return found if found in (*_ENDED_WELL, *_ENDED_BADLY) else ""


def finish(final_state: str) -> None:
    """Ends the command: exit status 1 for a bad end."""
    if final_state in _ENDED_BADLY:
        raise click.exceptions.Exit(failures.FAILED)


def full_name(noun: str, name: str) -> str:
    """`models/digits` for `digits`."""

    return BY_NOUN[noun].qualified(name)


def print_created(session: Session, message: Any) -> None:
    """The name of what was made, for scripts; or all of it as JSON."""
    if session.as_json:
        output.print_message(message, as_json=True)
    else:
        click.echo(message.name)


def print_changed(session: Session, message: Any) -> None:
    """The state of what was changed."""
    if session.as_json:
        output.print_message(message, as_json=True)
        return
    from keeptune.client.results import enum_name

    state = enum_name(message)
    click.echo(f"{message.name} {output.colour(state, state)}  {message.reason}".rstrip())
    if message.next_step:
        output.note(message.next_step)


def print_deleted(session: Session, name: str) -> None:
    if session.as_json:
        output.print_json({"name": name, "deleted": True})
    else:
        click.echo(f"{name} deleted")


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal; without one `--yes` must have been given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("give --yes: there is nobody to ask")
    click.confirm(question, abort=True, err=True)
