"""Who gets a retune when one is asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keeptune.retuning.model import Evidence, Policy, Retune


class Admission(StrEnum):
    STARTED = "STARTED"
    JOINED = "JOINED"
    COOLDOWN = "COOLDOWN"
    STALE = "STALE"


@dataclass(frozen=True)
class Answer:
    admission: Admission
    reason: str
    retry_after: timedelta | None = None


def admit(
    policy: Policy,
    *,
    open_retune: str,
    last: Retune | None,
    evidence: Sequence[Evidence],
    champion: str | None,
    force: bool,
    now: datetime,
) -> Answer:
    """What becomes of a request for a retune.

    `open_retune` names the policy's retune under way, if any; `last` is its newest one;
    `champion` is the version that should serve ("" = none), None when nobody could be asked.
    """
    if open_retune:
        return Answer(Admission.JOINED, f"{open_retune} is under way")
    seen = {item.version for item in evidence}
    if champion and seen and champion not in seen:
        return Answer(
            Admission.STALE,
            f"the evidence is about {', '.join(sorted(seen))}, but {champion} serves now",
        )
    until = policy.cooldown_end(last)
    if until is not None and until > now and not force:
        return Answer(
            Admission.COOLDOWN,
            f"the last retune ended {_seconds(now - (until - policy.cooldown))} ago and the policy "
            f"asks for {_seconds(policy.cooldown)} between retunes",
            retry_after=until - now,
        )
    return Answer(Admission.STARTED, "")


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
