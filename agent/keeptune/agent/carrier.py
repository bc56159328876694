"""Carries out what was ordered: observes, asks `reconcile` for the steps, takes them.

One thing at a time a model, orders and the way back alike. After a step that failed for a passing
reason everything is looked at anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from keeptune.agent import reconcile
from keeptune.agent.artifacts import ArtifactFetcher
from keeptune.agent.health import ModelHealth
from keeptune.agent.host_store import Bake, HostStore
from keeptune.agent.model_config import Platform
from keeptune.agent.orders import action_of
from keeptune.agent.package import MODEL_FILE, Package, PackageFile, staging_name
from keeptune.agent.reconcile import ModelOnHost
from keeptune.agent.repository import ModelRepository
from keeptune.agent.tensors import Array
from keeptune.agent.triton_model import InferenceFailed
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime import names
from keeptune.runtime.backoff import Backoff
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import InvalidInput, KeeptuneError
from keeptune.runtime.logging import CARRIED, bound
from keeptune.v1 import deployment_pb2

log = structlog.get_logger()

ORDER_SECONDS = 180.0


class Carrier:
    """Changes this host's models, and says how they stand.

    `example` gives an input that a model was recently asked, for probes; empty = zeros.
    `changed` is called after every change.
    """

    def __init__(
        self,
        *,
        repository: ModelRepository,
        updater: ModelUpdater,
        health: ModelHealth,
        store: HostStore,
        fetcher: ArtifactFetcher,
        clock: Clock,
        example: Callable[[str], Mapping[str, Array]],
        changed: Callable[[str], None],
    ) -> None:
        self._repository = repository
        self._updater = updater
        self._health = health
        self._store = store
        self._fetcher = fetcher
        self._clock = clock
        self._example = example
        self._changed = changed
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def models(self) -> tuple[str, ...]:
        """Every model that lies on this host, staged ones by their own name."""
        suffix = staging_name("")
        found = {name.removesuffix(suffix) for name in self._repository.names()}
        return tuple(sorted(found | set(self._store.models())))

    def observe(self, model: str) -> ModelOnHost:
        """The model as it lies on disk, which Triton follows."""
        state = self._repository.state(model)
        staged = self._repository.state(staging_name(model))
        return ModelOnHost(
            serving=max(state.serving, default=0),
            standby=max(sorted(state.serving)[:-1], default=0),
            staged=max(staged.serving, default=0),
            on_disk=tuple(state.versions),
            loaded=tuple(sorted(state.serving)),
            bake=self._store.record(model).bake,
        )

    def busy(self, model: str) -> bool:
        """Whether the model is being changed right now, so that what it seems to be is not it."""
        return self._locks[model].locked()

    async def carry_out(self, order: deployment_pb2.Order) -> deployment_pb2.OrderResult:
        """Never raises for what the order or the host is to blame for: that is the result."""
        with bound(**{name: order.carried.get(name) for name in CARRIED}):
            try:
                await self._carry_out(order)
            except KeeptuneError as error:
                log.warning("order.failed", order=order.id, why=error.message)
                return _result(order, deployment_pb2.ORDER_STATE_FAILED, error.message[:1000])
            log.info("order.done", order=order.id, model=order.model)
            return _result(order, deployment_pb2.ORDER_STATE_DONE, "")

    async def go_back(self, model: str, bake: Bake, reason: str) -> bool:
        """Back from the version that bakes to the one before, by the host's own judgement.

        False when there is no way back, or the bake that was judged is no longer under way. The
        note that it leaves tells the control plane why.
        """
        async with self._locks[model]:
            actual = self.observe(model)
            if actual.bake != bake or not bake.previous or actual.serving != bake.version:
                return False
            note = f"went back from version {bake.version}: {reason}"
            action = reconcile.RollBack(bake.version, bake.previous, note)
            log.error("bake.breach", model=model, version=bake.version, why=reason)
            await self._take_steps(model, action, None)
            return True

    async def end_bake(self, model: str, bake: Bake) -> None:
        """The version has held; its watch goes on without a way back of its own.

        Another bake, which an order began meanwhile, goes on.
        """
        async with self._locks[model]:
            record = self._store.record(model)
            if record.bake != bake:
                return
            self._store.put_record(model, replace(record, bake=None))
        self._changed(model)

    async def _carry_out(self, order: deployment_pb2.Order) -> None:
        model = names.parse_model(order.model)
        action = action_of(order)
        backoff = Backoff(initial=0.5, maximum=5.0)
        until = self._clock.monotonic() + ORDER_SECONDS
        async with self._locks[model]:
            while True:
                try:
                    return await self._take_steps(model, action, order)
                except KeeptuneError as error:
                    if not error.retryable or self._clock.monotonic() >= until:
                        await self._clear_up(model, action, error)
                        raise
                    log.warning("order.will_try_again", order=order.id, why=error.message)
                    await self._clock.sleep(backoff.next(at_least=error.retry_after or 0.0))

    async def _take_steps(
        self, model: str, action: reconcile.Action, order: deployment_pb2.Order | None
    ) -> None:
        for step in reconcile.reconcile(action, self.observe(model)):
            log.debug("order.step", model=model, step=step)
            await self._take(model, step, order)
        self._changed(model)

    async def _clear_up(self, model: str, action: reconcile.Action, error: KeeptuneError) -> None:
        """A promotion that failed leaves what served before, with no bake."""
        if not isinstance(action, reconcile.Promote):
            return
        actual = self.observe(model)
        bake = actual.bake
        if bake is None or bake.version != action.version:
            return
        if actual.serving == action.version and bake.previous:
            back = reconcile.RollBack(action.version, bake.previous, error.message)
            await self._take_steps(model, back, None)
        elif actual.serving != action.version:
            self._store.put_record(model, replace(self._store.record(model), bake=None))

    async def _take(
        self, model: str, step: reconcile.Step, order: deployment_pb2.Order | None
    ) -> None:
        match step:
            case reconcile.FetchVersion():
                assert order is not None
                await self._fetch(model, order.stage.version)
            case reconcile.StageChallenger():
                assert order is not None
                await self._stage(model, order.stage)
            case reconcile.ProbeChallenger(version):
                await self._probe(staging_name(model), version, model)
            case reconcile.DiscardChallenger():
                await self._updater.discard_challenger(model)
            case reconcile.BeginBake(version, previous, seconds):
                now = self._clock.now().timestamp()
                bake = Bake(version, previous, now, now + seconds)
                record = replace(self._store.record(model), bake=bake, note="")
                self._store.put_record(model, record)
            case reconcile.InstallChallenger(version):
                await self._updater.install(self._staged_package(model, version))
            case reconcile.ServeOnly(version):
                await self._updater.promote(model, version)
            case reconcile.ProbeServing(version):
                await self._probe(model, version, model)
            case reconcile.EndBake(note):
                record = replace(self._store.record(model), bake=None, note=note)
                self._store.put_record(model, record)
            case reconcile.RemoveVersion(version):
                await self._updater.remove_version(model, version)
                self._forget_versions(model)
            case reconcile.RemoveModel():
                await self._updater.remove_model(model)
                self._store.forget(model)
            case reconcile.KeepMonitoring():
                assert order is not None
                self._keep_monitoring(model, order)

    async def _fetch(self, model: str, version: deployment_pb2.ModelVersion) -> None:
        owner, number = names.parse_version(version.name, field="stage.version.name")
        if owner != model:
            raise InvalidInput(
                field="stage.version.name", problem=f"{version.name!r} is not of models/{model}"
            )
        self._fetcher.verify(version)
        profile = b""
        if version.HasField("reference_profile"):
            profile = await self._fetcher.fetch_profile(version.reference_profile)
        self._store.put_version(model, version, number, profile)

    async def _stage(self, model: str, stage: deployment_pb2.StageVersion) -> None:
        onnx = stage.version.onnx
        path = await self._fetcher.fetch(onnx)
        package = Package(
            model=model,
            version=names.parse_version(stage.version.name)[1],
            platform=_platform(stage.package.backend),
            config=stage.package.config,
            files={MODEL_FILE: PackageFile(path, onnx.sha256)},
        )
        try:
            await self._updater.stage(package)
        finally:
            self._fetcher.discard(onnx)

    def _staged_package(self, model: str, version: int) -> Package:
        """What was staged, to be installed under the model's own name."""
        name = staging_name(model)
        there = self._repository.state(name).versions[version]
        folder = self._repository.root / name / str(version)
        return Package(
            model=model,
            version=version,
            platform=there.platform,
            config=there.config,
            files={
                file: PackageFile(folder / file, digest) for file, digest in there.sha256.items()
            },
        )

    async def _probe(self, name: str, version: int, model: str) -> None:
        health = await self._health.probe(name, version, self._example(model) or None)
        if not health.healthy:
            raise InferenceFailed(
                f"version {version} of {model} does not answer soundly: "
                f"{first_line(health.problem)}"
            )

    def _forget_versions(self, model: str) -> None:
        actual = self.observe(model)
        self._store.keep_versions(model, {*actual.on_disk, actual.staged})

    def _keep_monitoring(self, model: str, order: deployment_pb2.Order) -> None:
        """Only as far as the order says it."""
        if order.HasField("configure"):
            monitoring = order.configure.monitoring
        elif order.stage.HasField("monitoring"):
            monitoring = order.stage.monitoring
        else:
            return
        self._store.put_record(model, replace(self._store.record(model), monitoring=monitoring))


def first_line(problem: str) -> str:
    """Triton's errors carry the model's whole traceback."""
    return problem.partition("\n")[0][:500]


def _platform(backend: str) -> Platform:
    if backend == "onnxruntime":
        return "onnxruntime"
    if backend == "python":
        return "python"
    raise InvalidInput(
        field="stage.package.backend",
        problem=f"is {backend!r}",
        fix="use onnxruntime or python",
    )


def _result(
    order: deployment_pb2.Order, state: deployment_pb2.OrderState.ValueType, reason: str
) -> deployment_pb2.OrderResult:
    return deployment_pb2.OrderResult(
        order_id=order.id, sequence=order.sequence, state=state, reason=reason
    )
