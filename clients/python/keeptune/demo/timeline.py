"""Everything that was seen during the demo, and the summary of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Request:
    """One served request; times are seconds since the demo began."""

    time: float
    latency_ms: float
    # "" when it failed.
    version: str
    right: bool
    failure: str = ""


@dataclass(frozen=True)
class Moment:
    """Something that happened, for the picture and the log."""

    time: float
    kind: str
    text: str


@dataclass
class Timeline:
    requests: list[Request] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    # (seconds, log10 of the drift statistic over its threshold)
    drift_levels: list[tuple[float, float]] = field(default_factory=list)
    # (seconds, metric) of every finished trial, by study
    trials: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    agent_rss_mb: list[float] = field(default_factory=list)
    camera_changed: float | None = None
    # Of signals, in order; those before the camera changed are false alarms.
    signals: list[float] = field(default_factory=list)
    # When unversioned requests were first answered by the version.
    swaps: list[tuple[float, str]] = field(default_factory=list)

    def add(self, request: Request) -> None:
        # A version once seen is no swap: an answer of the old one may overtake one of the new.
        if request.version and request.version not in {version for _, version in self.swaps}:
            self.swaps.append((request.time, request.version))
        self.requests.append(request)

    def note(self, time: float, kind: str, text: str) -> None:
        self.moments.append(Moment(time, kind, text))

    def accuracy(self, start: float, end: float) -> float | None:
        """Share of right answers among the requests of a span; None without any."""
        right = [r.right for r in self.requests if start <= r.time < end and not r.failure]
        return sum(right) / len(right) if right else None

    def recent_accuracy(self, count: int = 200) -> float | None:
        recent = [r.right for r in self.requests[-count:] if not r.failure]
        return sum(recent) / len(recent) if recent else None


@dataclass(frozen=True)
class Summary:
    """What `--json` writes. Accuracies are shares of served requests; None = never got there."""

    closed: bool
    seed: int
    requests: int
    failed_requests: int
    calm_requests: int
    false_alarms: int
    accuracy_before: float | None
    accuracy_drifted: float | None
    accuracy_after: float | None
    requests_to_detect: int | None
    seconds_drift_to_recovered: float | None
    trials: int
    versions: list[str]
    sampling_rate: float
    agent_rss_mb: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    seconds: float
    problems: list[str]


def summarize(
    timeline: Timeline, *, seed: int, sampling_rate: float, seconds: float, problems: list[str]
) -> Summary:
    """The figures of one run."""
    changed = timeline.camera_changed
    end = seconds + 1.0
    calm_end = end if changed is None else changed
    alarms = [t for t in timeline.signals if t < calm_end]
    detected = next((t for t in timeline.signals if t >= calm_end), None)
    recovered = next((t for t, _ in timeline.swaps[1:] if t >= calm_end), None)
    latencies = sorted(r.latency_ms for r in timeline.requests if not r.failure)
    failed = sum(1 for r in timeline.requests if r.failure)
    after = None if recovered is None else timeline.accuracy(recovered, end)
    return Summary(
        closed=not problems,
        seed=seed,
        requests=len(timeline.requests),
        failed_requests=failed,
        calm_requests=sum(1 for r in timeline.requests if r.time < calm_end),
        false_alarms=len(alarms),
        accuracy_before=_rounded(timeline.accuracy(0.0, calm_end)),
        accuracy_drifted=None
        if changed is None
        else _rounded(timeline.accuracy(changed, end if recovered is None else recovered)),
        accuracy_after=_rounded(after),
        requests_to_detect=None
        if detected is None
        else sum(1 for r in timeline.requests if calm_end <= r.time < detected),
        seconds_drift_to_recovered=None
        if recovered is None or changed is None
        else round(recovered - changed, 2),
        trials=sum(len(t) for t in timeline.trials.values()),
        versions=[version for _, version in timeline.swaps],
        sampling_rate=sampling_rate,
        agent_rss_mb=round(max(timeline.agent_rss_mb, default=0.0), 1),
        latency_p50_ms=_quantile(latencies, 0.5),
        latency_p99_ms=_quantile(latencies, 0.99),
        seconds=round(seconds, 1),
        problems=problems,
    )


def rolling_accuracy(
    requests: list[Request], bin_seconds: float = 2.0
) -> list[tuple[float, float]]:
    """(middle of the bin, accuracy) over bins with at least 10 answers."""
    if not requests:
        return []
    bins: dict[int, list[bool]] = {}
    for request in requests:
        if not request.failure:
            bins.setdefault(int(request.time // bin_seconds), []).append(request.right)
    return [
        ((index + 0.5) * bin_seconds, sum(right) / len(right))
        for index, right in sorted(bins.items())
        if len(right) >= 10
    ]


def longest_gap(requests: list[Request]) -> float:
    """Seconds between two answers that followed each other, at most."""
    times = sorted(r.time for r in requests if not r.failure)
    return max((b - a for a, b in pairwise(times)), default=0.0)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _quantile(ascending: list[float], share: float) -> float | None:
    if not ascending:
        return None
    return round(ascending[min(len(ascending) - 1, int(share * len(ascending)))], 3)
