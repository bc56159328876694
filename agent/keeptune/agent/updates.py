"""Changes which versions of a model Triton serves, losing no request and always with a way back.

The sequence of an update, each step idempotent and safe to be killed in; a killed step is simply
called again, for what is left to do is read from the disk and from Triton's index:

    stage(package)           loaded under a name of its own, where no request of users goes
    (probe it there: `TritonClient.canary`, shadow requests)
    install(package)         loaded beside the champion; the highest version gets the traffic
    promote(model, new)      only the new one is served
    roll_back(model, old)    or only the old one: some 20 ms while it is still loaded
    discard_challenger(model)
    remove_version(model, old)

Versions whose configurations differ (other shapes, say) cannot be loaded side by side: `install`
then swaps at once, which Triton does without losing a request too, and the way back takes a load.

After every load Triton's index is asked whether the versions are there: Triton answers OK for a
version that is listed but missing on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from keeptune.agent.package import Package, check_model_name, check_version, staging_name
from keeptune.agent.repository import ModelRepository, ModelState
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_model import IndexEntry, ModelLoadFailed
from keeptune.runtime.errors import NotFound

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True)
class Restored:
    """What `restore` found of one model."""

    model: str
    """The folder's name: of a model or of its staged challenger."""
    serving: tuple[int, ...]
    problem: str
    """Why it does not serve all it should; empty when it does."""


class ModelUpdater:
    """Takes one step at a time; only one of these may work on a repository."""

    def __init__(self, repository: ModelRepository, triton: TritonClient) -> None:
        self._repository = repository
        self._triton = triton
        self._one_at_a_time = asyncio.Lock()

    async def state(self, model: str) -> ModelState:
        """What lies on disk of a model."""
        check_model_name(model)
        return await self._disk(lambda: self._repository.state(model))

    async def loaded(self, name: str) -> tuple[int, ...]:
        """The versions that Triton says are ready, of a model or a staged one, ascending."""
        entries = _of(await self._triton.index(), name)
        return tuple(sorted(entry.version for entry in entries if entry.ready))

    async def stage(self, package: Package) -> str:
        """Loads a package as its model's challenger and returns the name it has in Triton.

        Another challenger of that model is replaced. Raises what `ModelRepository.add_version`
        does, and ModelLoadFailed when Triton refuses it; nothing is left of it then.
        """
        package.check()
        name = staging_name(package.model)
        async with self._one_at_a_time:
            await self._disk(lambda: self._repository.add_version(name, package))
            await self._disk(lambda: self._repository.serve(name, (package.version,)))
            try:
                await self._load(name, (package.version,))
            except ModelLoadFailed:
                await self._forget(name)
                raise
            await self._remove_unserved(name)
        return name

    async def discard_challenger(self, model: str) -> None:
        """Unloads and deletes what is staged for `model`. Idempotent."""
        check_model_name(model)
        async with self._one_at_a_time:
            await self._forget(staging_name(model))

    async def install(self, package: Package) -> tuple[int, ...]:
        """Loads a package beside what its model serves and returns the versions now loaded.

        Unversioned requests go to the highest of them. Raises as `stage` does; the model then
        serves what it served, and the version is gone.
        """
        package.check()
        model, version = package.model, package.version
        async with self._one_at_a_time:
            new = await self._disk(lambda: self._repository.add_version(model, package))
            before = await self._disk(lambda: self._repository.state(model))
            beside = [
                old
                for old in before.serving
                if old != version and before.versions[old].fits_beside(new)
            ]
            try:
                return await self._serve(model, (*beside, version))
            except ModelLoadFailed:
                await self._back_to(model, [v for v in before.serving if v != version])
                await self._disk(lambda: self._repository.remove_version(model, version))
                raise

    async def promote(self, model: str, version: int) -> None:
        """Serves only `version`; the others stay on disk. Idempotent.

        Raises NotFound when it is not on disk, ModelLoadFailed when it was not loaded and Triton
        refuses it; what was served then still is.
        """
        check_model_name(model)
        check_version(version)
        async with self._one_at_a_time:
            before = await self._disk(lambda: self._repository.state(model))
            if version not in before.versions:
                raise NotFound(f"version {version} of {model} is not on this host")
            try:
                await self._serve(model, (version,))
            except ModelLoadFailed:
                await self._back_to(model, before.serving)
                raise

    async def roll_back(self, model: str, version: int) -> None:
        """Goes back to serving only `version`; the same step as `promote`, the other way."""
        await self.promote(model, version)

    async def remove_version(self, model: str, version: int) -> None:
        """Deletes a version that is not served. Raises FailedPrecondition when it is."""
        check_model_name(model)
        async with self._one_at_a_time:
            await self._disk(lambda: self._repository.remove_version(model, version))

    async def remove_model(self, model: str) -> None:
        """Takes a model and its challenger out of service and off the disk. Idempotent."""
        check_model_name(model)
        async with self._one_at_a_time:
            await self._forget(staging_name(model))
            await self._forget(model)

    async def reload(self, name: str, version: int) -> None:
        """Loads a served version anew from disk, e.g. because its process has died."""
        async with self._one_at_a_time:
            await self._disk(lambda: self._repository.touch(name, version))
            serving = (await self._disk(lambda: self._repository.state(name))).serving
            await self._load(name, serving)

    async def restore(self) -> tuple[Restored, ...]:
        """Makes Triton serve what the disk says; for the agent's start and after Triton's.

        Tidies the disk and loads what is not loaded. A version that Triton refuses while another
        of the model serves is taken out of service, so that the next restart comes up whole.
        """
        async with self._one_at_a_time:
            removed = await self._disk(self._repository.tidy)
            if removed:
                log.info("repository.tidied", removed=removed)
            return tuple([await self._restore(name) for name in self._repository.names()])

    async def _restore(self, name: str) -> Restored:
        state = await self._disk(lambda: self._repository.state(name))
        if not state.serving:
            return Restored(name, (), "its folder tells of no version to serve")
        if set(await self.loaded(name)) == set(state.serving):
            return Restored(name, state.serving, "")
        try:
            await self._load(name, state.serving)
        except ModelLoadFailed as error:
            sound = await self._without_refused(name, state)
            try:
                serving = await self._serve(name, sound) if sound else ()
            except ModelLoadFailed:
                serving = ()
            return Restored(name, serving, error.message)
        return Restored(name, state.serving, "")

    async def _without_refused(self, name: str, state: ModelState) -> list[int]:
        """The versions to go on with after a failed load: those that Triton did not blame.

        One refused version takes the others of its load with it, so they need not be ready.
        """
        entries = {entry.version: entry for entry in _of(await self._triton.index(), name)}
        ready = [v for v in state.serving if v in entries and entries[v].ready]
        unblamed = [v for v in state.serving if v in entries and not _is_refused(entries[v])]
        return [v for v in ready or unblamed if v in state.versions]

    async def _serve(self, name: str, versions: Sequence[int]) -> tuple[int, ...]:
        await self._disk(lambda: self._repository.serve(name, versions))
        await self._load(name, versions)
        return tuple(sorted(versions))

    async def _load(self, name: str, versions: Sequence[int]) -> None:
        """Loads and then checks that exactly `versions` are ready. Raises ModelLoadFailed."""
        await self._triton.load(name)
        entries = _of(await self._triton.index(), name)
        ready = {entry.version for entry in entries if entry.ready}
        for version in versions:
            if version not in ready:
                reasons = [entry.reason for entry in entries if entry.version == version]
                raise ModelLoadFailed(
                    f"version {version} of {name} is not ready after its load: "
                    f"{'; '.join(filter(None, reasons)) or 'Triton does not know it'}"
                )

    async def _back_to(self, model: str, serving: Sequence[int]) -> None:
        """Puts the disk back, so that a restarted Triton serves what this one still does."""
        if serving:
            await self._serve(model, serving)
        else:
            await self._forget(model)

    async def _forget(self, name: str) -> None:
        if _of(await self._triton.index(), name):
            await self._triton.unload(name)
        await self._disk(lambda: self._repository.remove_model(name))

    async def _remove_unserved(self, name: str) -> None:
        state = await self._disk(lambda: self._repository.state(name))
        for version in state.versions.keys() - set(state.serving):
            await self._disk(partial(self._repository.remove_version, name, version))

    async def _disk(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


def _is_refused(entry: IndexEntry) -> bool:
    return entry.state == "UNAVAILABLE" and entry.reason not in ("", "unloaded")


def _of(index: Sequence[IndexEntry], name: str) -> list[IndexEntry]:
    return [entry for entry in index if entry.model == name]
