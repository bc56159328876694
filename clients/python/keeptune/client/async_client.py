"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from keeptune.client import manifest, nouns, resources, results, settings
from keeptune.client import space as spaces
from keeptune.client.async_study import AsyncStudy
from keeptune.client.connection import discover
from keeptune.client.imports import importing
from keeptune.client.persistence import resume
from keeptune.client.results import PolicyStatus, RetuneStatus
from keeptune.client.services import AsyncServices
from keeptune.runtime.channel import DEFAULT_TIMEOUT
from keeptune.runtime.convert import to_duration
from keeptune.runtime.errors import AlreadyExists, DeadlineExceeded, InvalidInput
from keeptune.v1 import retuning_pb2, search_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from keeptune.client.imports.adding import Imported
    from keeptune.client.imports.optuna_study import OptunaStudy
    from keeptune.client.settings import Goal, Metric, Pruning
    from keeptune.client.space import Space

PATIENCE = 600.0


class AsyncClient(AsyncServices):
    """All services, wherever they are.

    Without arguments it finds what the environment says (KEEPTUNE_ADDRESS, KEEPTUNE_TOKEN or
    KEEPTUNE_TOKENS_FILE, KEEPTUNE_CA), else the `keeptune dev` of this machine. `services` gives
    addresses service by service, as does the section of that name in the file `config`.

    `timeout` is for one call, in seconds; `patience` is how long work on trials and watches
    outlast a service that is away. `search`, `training`, `evaluation`, `deployment` and `retuning`
    are the raw RPCs.
    """

    def __init__(
        self,
        address: str = "",
        *,
        services: Mapping[str, str] | None = None,
        token: str = "",
        tokens_file: Path | str | None = None,
        ca: Path | str | None = None,
        data_dir: Path | str | None = None,
        config: Path | str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = PATIENCE,
        wait_for_ready: bool = True,
    ) -> None:
        connection = discover(
            address=address,
            services=services,
            token=token,
            tokens_file=_path(tokens_file),
            ca=_path(ca),
            data_dir=_path(data_dir),
            config=_path(config),
        )
        super().__init__(connection, timeout=timeout, wait_for_ready=wait_for_ready)
        self.patience = patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- studies ---

    async def create_study(
        self,
        space: Space,
        *,
        metric: str | Metric | Sequence[Metric],
        goal: Goal = "maximize",
        budget: int = 0,
        max_duration: float = 0.0,
        name: str = "",
        exist_ok: bool = False,
        algorithm: str = "auto",
        pruning: Pruning = None,
        seed: int | None = None,
        lease_seconds: float = 0.0,
        max_retries: int | None = None,
        warm_start: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> AsyncStudy:
        """A study: what is searched, what is measured, and how long.

        `budget` is in trials and `max_duration` in seconds, 0 = no limit. `name` is an id such as
        `digits`, drawn when it is empty; with `exist_ok` a study of that name is returned as it
        is. `pruning` stops trials that will not win, by what they report on the way: "forecast"
        (the one to begin with), "asha", "median", `Forecast(...)`, `Asha(...)`, `Median(...)`,
        `Hyperband(...)` or None. `lease_seconds` is how long a
        worker may be silent before its trial goes to another (0 = 60). Raises InvalidInput naming
        what is wrong with the space or the rest.
        """
        wanted = search_pb2.Study(
            space=spaces.to_message(space),
            metrics=settings.metrics_to_messages(metric, goal),
            algorithm=search_pb2.Algorithm(name=algorithm),
            budget=search_pb2.Budget(
                max_trials=budget, max_duration=to_duration(_seconds(max_duration))
            ),
            pruning=settings.pruning_to_message(pruning),
            seed=seed,
            lease_duration=to_duration(_seconds(lease_seconds)),
            max_retries=max_retries,
            warm_start=warm_start,
            labels=labels,
        )
        request = search_pb2.CreateStudyRequest(
            study_id=name.removeprefix("studies/"), study=wanted
        )
        try:
            created = await self.search.CreateStudy(request)
        except AlreadyExists:
            if not (exist_ok and name):
                raise
            return await self.study(name)
        return AsyncStudy(self.search, created, patience=self.patience)

    async def study(self, name: str) -> AsyncStudy:
        """The study `digits` or `studies/digits`. Raises NotFound."""
        full_name = nouns.BY_NOUN["study"].qualified(name)
        found = await self.search.GetStudy(search_pb2.GetStudyRequest(name=full_name))
        return AsyncStudy(self.search, found, patience=self.patience)

    async def import_csv(
        self,
        file: Path | str,
        *,
        into: str = "",
        study: Path | str | Mapping[str, Any] | None = None,
        ignore: Collection[str] = (),
    ) -> Imported:
        """Known results from a table: a row a trial, a column a parameter or metric, by name.

        Into the study `into`, or a new one that `study` describes (a YAML file or a mapping, with
        its name). Run again it adds what is new alone. Columns of `ignore` are passed over. Raises
        InvalidInput naming lines and columns.
        """
        described = Path(study) if isinstance(study, str) else study
        return await importing.from_csv(
            self.search, Path(file), into=into, study=described, ignore=ignore
        )

    async def import_optuna(
        self,
        study: OptunaStudy,
        *,
        into: str = "",
        name: str = "",
        metrics: Sequence[str] = (),
        budget: int = 100,
    ) -> Imported:
        """The space, the objectives and the ended trials of an Optuna study.

        Into the study `into`, or a new one called `name` (default: Optuna's name) with a budget
        for further trials. `metrics` names the objectives. What had to be assumed, such as
        conditions, is in the answer's `notes`. Run again it adds what is new alone.
        """
        return await importing.from_optuna(
            self.search, study, into=into, name=name, metrics=metrics, budget=budget
        )

    # --- the loop ---

    async def apply_policy(
        self, source: Path | str | Mapping[str, Any], *, dry_run: bool = False
    ) -> PolicyStatus:
        """Makes it so: a YAML file or a mapping that describes a policy.

        Applied for the first time it tunes and deploys version 1: `last_retune` of the answer is
        what `wait_retune` waits for. `dry_run` checks everything and changes nothing.
        """
        request = policy_request(source, dry_run=dry_run)
        return results.policy(await self.retuning.ApplyPolicy(request))

    async def request_retune(
        self, policy: str, *, note: str = "", force: bool = False
    ) -> RetuneStatus | None:
        """Asks for a retune of `policies/digits`, or joins the one under way.

        None = in cooldown, which `force` ignores.
        """
        answer = await self.retuning.RequestRetune(
            retuning_pb2.RequestRetuneRequest(
                policy=nouns.BY_NOUN["policy"].qualified(policy), note=note, force=force
            )
        )
        return results.retune(answer.retune) if answer.HasField("retune") else None

    async def retune(self, name: str) -> RetuneStatus:
        """How a retune stands. Raises NotFound."""
        full_name = nouns.BY_NOUN["retune"].qualified(name)
        request = retuning_pb2.GetRetuneRequest(name=full_name)
        return results.retune(await self.retuning.GetRetune(request))

    async def watch_retunes(
        self, policy: str = "", *, revision: int = 0
    ) -> AsyncIterator[RetuneStatus]:
        """Every change of the retunes of a policy, or of all, then live, for ever."""
        full_name = nouns.BY_NOUN["policy"].qualified(policy) if policy else ""
        async for event in self.retune_events(full_name, revision=revision):
            yield results.retune(event.retune)

    async def wait_retune(self, name: str, *, timeout: float | None = None) -> RetuneStatus:  # noqa: ASYNC109
        """Waits until a retune has ended, well or badly; look at `succeeded` and `reason`.

        Raises DeadlineExceeded after `timeout` seconds (None = no limit).
        """
        status = await self.retune(name)
        try:
            async with asyncio.timeout(timeout):
                while not status.ended:
                    # From its own policy's events; one of them is the end.
                    async for event in self.retune_events(status.policy):
                        if event.retune.name == status.name:
                            status = results.retune(event.retune)
                            if status.ended:
                                break
        except TimeoutError:
            raise DeadlineExceeded(
                f"{status.name} has not ended after {timeout:g} s; it is {status.state}",
                fix=status.next_step or "wait longer",
            ) from None
        return status

    def retune_events(
        self, policy: str = "", *, revision: int = 0
    ) -> AsyncIterator[retuning_pb2.WatchRetunesResponse]:
        """`watch_retunes` as messages with their revisions."""

        def events(after: int) -> AsyncIterable[retuning_pb2.WatchRetunesResponse]:
            return self.retuning.WatchRetunes(
                retuning_pb2.WatchRetunesRequest(policy=policy, revision=after),
                wait_for_ready=False,
            )

        return resume(events, revision=revision, patience=self.patience)

    # --- anything ---

    async def get(self, name: str) -> dict[str, Any]:
        """Any resource by its full name, e.g. `models/digits/versions/2`, as plain data."""
        return resources.as_data(await resources.fetch(self, nouns.kind_of(name), name))

    async def find(
        self,
        collection: str,
        *,
        parent: str = "",
        filter: str = "",  # noqa: A002
        order_by: str = "",
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """The resources of a collection, e.g. `rollouts` or `trials` (of a `parent`), as data.

        `filter` is e.g. `state = SUCCEEDED AND create_time > "2026-01-31T00:00:00Z"`.
        """
        kind = nouns.kind_of_collection(collection)
        found = resources.list_all(
            self, kind, parent=parent, filter=filter, order_by=order_by, limit=limit
        )
        return [resources.as_data(item) async for item in found]


def policy_request(
    source: Path | str | Mapping[str, Any], *, dry_run: bool = False
) -> retuning_pb2.ApplyPolicyRequest:
    """What applies the policy that a YAML file or a mapping describes."""
    wanted = manifest.load(Path(source) if isinstance(source, str) else source, retuning_pb2.Policy)
    policy_id = wanted.name.removeprefix("policies/")
    if not policy_id:
        raise InvalidInput(
            field="name",
            problem="is missing",
            fix="begin with e.g. `name: digits`",
            reason="INVALID_MANIFEST",
        )
    wanted.name = f"policies/{policy_id}"
    return retuning_pb2.ApplyPolicyRequest(
        policy_id=policy_id, policy=wanted, validate_only=dry_run
    )


def _path(given: Path | str | None) -> Path | None:
    return Path(given).expanduser() if given is not None else None


def _seconds(value: float) -> timedelta | None:
    return timedelta(seconds=value) if value else None
