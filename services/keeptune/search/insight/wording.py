"""What the figures mean, in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from keeptune.search.insight.choice import Choice
from keeptune.search.insight.forest import Forest
from keeptune.search.insight.outlook import Advice, Outlook

_TRUSTED_FROM = 0.6
_USELESS_BELOW = 0.2
_RECORDS_TOLD = 3


def remark(forest: Forest) -> str:
    """How far a forest is to be trusted, and what it could not see."""
    trust = _trust(forest)
    if not forest.graphs:
        return trust
    names = ", ".join(forest.graphs)
    return f"{trust}; of the graph {names} it sees the number of nodes alone"


def _trust(forest: Forest) -> str:
    explained = f"R2 {forest.r_squared:.2f} on trials it was not fitted to"
    if forest.r_squared >= _TRUSTED_FROM:
        return f"the model explains most of what was measured ({explained})"
    if forest.r_squared >= _USELESS_BELOW:
        return (
            f"the model explains a part of what was measured ({explained}): rely on large "
            "differences only"
        )
    return (
        f"the model explains little of what was measured ({explained}): noise, or too few trials; "
        "do not rely on it"
    )


def verdict(found: Outlook, tolerance: str) -> str:
    """The advice; `tolerance` as it is to be told."""
    chance = f"{_percent(found.probability)} for an improvement by more than {tolerance}"
    further = f"{found.further} further trial{'' if found.further == 1 else 's'}"
    match found.advice:
        case Advice.STOP:
            return f"{further} will probably not help: the chance is {chance}"
        case Advice.OPTIONAL:
            return f"{further} may help a little: the chance is {chance}"
        case Advice.CONTINUE:
            return f"{further} are likely enough to help: the chance is {chance}"


def evidence(found: Outlook, records: Sequence[float], sign: float) -> list[str]:
    """What the verdict rests on, with the losses at the records.

    `sign` turns a loss into the metric's value.
    """
    since = found.trials - 1 - found.best_trial
    told = [
        f"the best, {sign * found.best:.6g}, came with result {found.best_trial + 1} of "
        f"{found.trials}; "
        + (f"the {since} since did not beat it" if since else "nothing has come since"),
    ]
    gains = [f"{before - after:.3g}" for before, after in pairwise(records)]
    if gains:
        last = gains[-_RECORDS_TOLD:]
        told.append(
            f"the best was beaten {len(gains)} time{'' if len(gains) == 1 else 's'}, last by "
            f"{', '.join(last)}; chance alone would beat it "
            f"{sum(1 / t for t in range(2, found.trials + 1)):.1f} times in {found.trials} trials"
        )
    else:
        told.append("the first result was never beaten")
    ends = sorted((sign * found.low, sign * found.high))
    told.append(
        f"after {found.further} more the best is expected at {sign * found.expected:.6g} (80 %: "
        f"{ends[0]:.6g} to {ends[1]:.6g})"
    )
    told.append(
        f"the best possible is estimated to be {found.regret:.3g} away (80 %: "
        f"{found.regret_low:.3g} to {found.regret_high:.3g})"
    )
    return told


def choice(found: Choice, sign: float) -> str:
    """Which trial to take, and how far to believe its value; `sign` as of `evidence`."""
    times = f"measured {found.measured} times" if found.measured > 1 else "measured once"
    text = (
        f"trial {found.number}, {times}, is the best by the model: {sign * found.expected:.5g} on "
        f"average, where one measurement is off by {found.noise:.2g}"
    )
    if found.number == found.lowest or not found.probability:
        return text
    return (
        f"{text}; it beats trial {found.lowest}, which had the best value, with a chance of "
        f"{_percent(found.probability)}"
    )


def _percent(part: float) -> str:
    return "below 1 %" if part < 0.01 else f"{100 * part:.0f} %"
