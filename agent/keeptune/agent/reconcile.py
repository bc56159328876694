"""From what was ordered and what is there to the steps in between. Pure.

An order that was carried out in part, or wholly, gives only the steps that are left: doing it
twice does it once. Nothing but the state is looked at, never what was done before.
"""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.agent.host_store import Bake
from keeptune.runtime.errors import FailedPrecondition


@dataclass(frozen=True)
class ModelOnHost:
    """A model as the disk and Triton have it; versions by number, 0 = none.

    serving: what unversioned requests get. standby: loaded beside it, the way back. staged: under
    the challenger's name. on_disk: all in the model's folder. loaded: all that are to be loaded.
    """

    serving: int = 0
    standby: int = 0
    staged: int = 0
    on_disk: tuple[int, ...] = ()
    loaded: tuple[int, ...] = ()
    bake: Bake | None = None


# --- orders -----------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    version: int


@dataclass(frozen=True)
class Promote:
    version: int
    bake_seconds: float


@dataclass(frozen=True)
class Finish:
    version: int


@dataclass(frozen=True)
class RollBack:
    version: int
    to_version: int
    reason: str


@dataclass(frozen=True)
class Configure:
    pass


@dataclass(frozen=True)
class Remove:
    pass


Action = Stage | Promote | Finish | RollBack | Configure | Remove

# --- steps ------------------------------------------------------------------


@dataclass(frozen=True)
class FetchVersion:
    """Bring the artifacts onto the host, verified."""

    version: int


@dataclass(frozen=True)
class StageChallenger:
    version: int


@dataclass(frozen=True)
class ProbeChallenger:
    version: int


@dataclass(frozen=True)
class DiscardChallenger:
    pass


@dataclass(frozen=True)
class BeginBake:
    """Written before the version serves, so that no kill leaves it unwatched."""

    version: int
    previous: int
    seconds: float


@dataclass(frozen=True)
class InstallChallenger:
    """Load what is staged beside what serves; the highest number gets the traffic."""

    version: int


@dataclass(frozen=True)
class ServeOnly:
    version: int


@dataclass(frozen=True)
class ProbeServing:
    version: int


@dataclass(frozen=True)
class EndBake:
    note: str = ""


@dataclass(frozen=True)
class RemoveVersion:
    version: int


@dataclass(frozen=True)
class RemoveModel:
    pass


@dataclass(frozen=True)
class KeepMonitoring:
    pass


Step = (
    FetchVersion
    | StageChallenger
    | ProbeChallenger
    | DiscardChallenger
    | BeginBake
    | InstallChallenger
    | ServeOnly
    | ProbeServing
    | EndBake
    | RemoveVersion
    | RemoveModel
    | KeepMonitoring
)


def reconcile(action: Action, actual: ModelOnHost) -> tuple[Step, ...]:
    """The steps that are left, in order.

    Raises FailedPrecondition when the order does not fit what is there.
    """
    match action:
        case Stage(version):
            return _stage(version, actual)
        case Promote(version, seconds):
            return _promote(version, seconds, actual)
        case Finish(version):
            return _finish(version, actual)
        case RollBack(version, to_version, reason):
            return _roll_back(version, to_version, reason, actual)
        case Configure():
            return (KeepMonitoring(),)
        case Remove():
            return (RemoveModel(),)


def _stage(version: int, actual: ModelOnHost) -> tuple[Step, ...]:
    if actual.serving == version:
        return (KeepMonitoring(),)
    if actual.staged == version:
        return (FetchVersion(version), ProbeChallenger(version), KeepMonitoring())
    return (
        FetchVersion(version),
        StageChallenger(version),
        ProbeChallenger(version),
        KeepMonitoring(),
    )


def _promote(version: int, seconds: float, actual: ModelOnHost) -> tuple[Step, ...]:
    tidy: tuple[Step, ...] = (DiscardChallenger(),) if actual.staged == version else ()
    if actual.serving == version:
        begun = actual.bake is not None and actual.bake.version == version
        watched = begun or not actual.standby
        bake: tuple[Step, ...] = (BeginBake(version, actual.standby, seconds),)
        return (*(() if watched else bake), ProbeServing(version), *tidy)
    if actual.staged != version and version not in actual.on_disk:
        raise FailedPrecondition(
            f"version {version} is not staged on this host",
            reason="NOT_STAGED",
            fix="stage it first",
        )
    begin = BeginBake(version, actual.serving, seconds)
    install: tuple[Step, ...] = (
        (InstallChallenger(version),) if actual.staged == version else (ServeOnly(version),)
    )
    # Unversioned requests get the highest number that is loaded.
    if actual.staged == version and version < max(actual.loaded, default=0):
        install = (*install, ServeOnly(version))
    return (begin, *install, ProbeServing(version), *tidy)


def _finish(version: int, actual: ModelOnHost) -> tuple[Step, ...]:
    if actual.serving != version:
        raise FailedPrecondition(
            f"version {version} does not serve here (version {actual.serving or 'none'} does)",
            reason="NOT_SERVING",
            fix="promote it first",
        )
    others = tuple(number for number in actual.on_disk if number != version)
    return (
        *((ServeOnly(version),) if set(actual.loaded) != {version} else ()),
        *(RemoveVersion(number) for number in others),
        *((DiscardChallenger(),) if actual.staged else ()),
        EndBake(),
    )


def _roll_back(version: int, to_version: int, reason: str, actual: ModelOnHost) -> tuple[Step, ...]:
    discard: tuple[Step, ...] = (DiscardChallenger(),) if actual.staged == version else ()
    if to_version == 0:
        others = [number for number in actual.on_disk if number != version]
        if others:
            # Something else serves here: it stays.
            return _leave(version, max(others), reason, actual, discard)
        return (RemoveModel(),) if actual.on_disk or actual.staged else ()
    if to_version not in actual.on_disk:
        if actual.serving != version:
            return discard
        raise FailedPrecondition(
            f"version {to_version} is not on this host any more",
            reason="NO_WAY_BACK",
            fix="stage and promote it",
        )
    return _leave(version, to_version, reason, actual, discard)


def _leave(
    version: int, to_version: int, reason: str, actual: ModelOnHost, discard: tuple[Step, ...]
) -> tuple[Step, ...]:
    if actual.serving not in (version, to_version) and version not in actual.on_disk:
        return discard
    serve: tuple[Step, ...] = (ServeOnly(to_version),) if actual.loaded != (to_version,) else ()
    gone = (RemoveVersion(version),) if version in actual.on_disk else ()
    return (*serve, EndBake(reason), *gone, *discard)
