"""The client for programs without an event loop."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from keeptune.client.async_client import PATIENCE, AsyncClient
from keeptune.client.loop_thread import LoopThread
from keeptune.client.results import PolicyStatus, RetuneStatus
from keeptune.client.services import SyncServices
from keeptune.client.study import Study
from keeptune.runtime.channel import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from types import TracebackType

    from keeptune.client.imports.adding import Imported
    from keeptune.client.imports.optuna_study import OptunaStudy
    from keeptune.client.settings import Goal, Metric, Pruning
    from keeptune.client.space import Space


class Client(SyncServices):
    """All services, wherever they are.

    Without arguments it finds what the environment says (KEEPTUNE_ADDRESS, KEEPTUNE_TOKEN or
    KEEPTUNE_TOKENS_FILE, KEEPTUNE_CA), else the `keeptune dev` of this machine. `services` gives
    addresses service by service, as does the section of that name in the file `config`.

    `timeout` is for one call, in seconds; `patience` is how long work on trials and watches
    outlast a service that is away. `search`, `training`, `evaluation`, `deployment` and `retuning`
    are the raw RPCs. May be used from several threads; make one in each process.
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
        self._inner = AsyncClient(
            address,
            services=services,
            token=token,
            tokens_file=tokens_file,
            ca=ca,
            data_dir=data_dir,
            config=config,
            timeout=timeout,
            patience=patience,
            wait_for_ready=wait_for_ready,
        )
        super().__init__(self._inner.connection, timeout=timeout, wait_for_ready=wait_for_ready)
        self.patience = patience
        self._loop = LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; calls under way fail."""
        super().close()
        self._loop.run(self._inner.close())
        self._loop.close()

    def health(self, service: str) -> str:
        """SERVING, NOT_SERVING or SERVICE_UNKNOWN, as gRPC's health protocol has it."""
        return self._loop.run(self._inner.health(service))

    def create_study(
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
    ) -> Study:
        """A study: what is searched, what is measured, and how long.

        `budget` is in trials and `max_duration` in seconds, 0 = no limit. `name` is an id such as
        `digits`, drawn when it is empty; with `exist_ok` a study of that name is returned as it
        is. `pruning` stops trials that will not win, by what they report on the way: "forecast"
        (the one to begin with), "asha", "median", `Forecast(...)`, `Asha(...)`, `Median(...)`,
        `Hyperband(...)` or None. `lease_seconds` is how long a
        worker may be silent before its trial goes to another (0 = 60). Raises InvalidInput naming
        what is wrong with the space or the rest.
        """
        inner = self._loop.run(
            self._inner.create_study(
                space,
                metric=metric,
                goal=goal,
                budget=budget,
                max_duration=max_duration,
                name=name,
                exist_ok=exist_ok,
                algorithm=algorithm,
                pruning=pruning,
                seed=seed,
                lease_seconds=lease_seconds,
                max_retries=max_retries,
                warm_start=warm_start,
                labels=labels,
            )
        )
        return Study(inner, self._loop)

    def study(self, name: str) -> Study:
        """The study `digits` or `studies/digits`. Raises NotFound."""
        return Study(self._loop.run(self._inner.study(name)), self._loop)

    def import_csv(
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
        return self._loop.run(self._inner.import_csv(file, into=into, study=study, ignore=ignore))

    def import_optuna(
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
        return self._loop.run(
            self._inner.import_optuna(study, into=into, name=name, metrics=metrics, budget=budget)
        )

    def apply_policy(
        self, source: Path | str | Mapping[str, Any], *, dry_run: bool = False
    ) -> PolicyStatus:
        """Makes it so: a YAML file or a mapping that describes a policy.

        Applied for the first time it tunes and deploys version 1: `last_retune` of the answer is
        what `wait_retune` waits for. `dry_run` checks everything and changes nothing.
        """
        return self._loop.run(self._inner.apply_policy(source, dry_run=dry_run))

    def request_retune(
        self, policy: str, *, note: str = "", force: bool = False
    ) -> RetuneStatus | None:
        """Asks for a retune of `policies/digits`, or joins the one under way.

        None = in cooldown, which `force` ignores.
        """
        return self._loop.run(self._inner.request_retune(policy, note=note, force=force))

    def retune(self, name: str) -> RetuneStatus:
        """How a retune stands. Raises NotFound."""
        return self._loop.run(self._inner.retune(name))

    def watch_retunes(self, policy: str = "", *, revision: int = 0) -> Iterator[RetuneStatus]:
        """Every change of the retunes of a policy, or of all, then live, for ever."""
        return self._loop.iterate(self._inner.watch_retunes(policy, revision=revision))

    def wait_retune(self, name: str, *, timeout: float | None = None) -> RetuneStatus:
        """Waits until a retune has ended, well or badly; look at `succeeded` and `reason`.

        Raises DeadlineExceeded after `timeout` seconds (None = no limit).
        """
        return self._loop.run(self._inner.wait_retune(name, timeout=timeout))

    def get(self, name: str) -> dict[str, Any]:
        """Any resource by its full name, e.g. `models/digits/versions/2`, as plain data."""
        return self._loop.run(self._inner.get(name))

    def find(
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
        return self._loop.run(
            self._inner.find(
                collection, parent=parent, filter=filter, order_by=order_by, limit=limit
            )
        )
