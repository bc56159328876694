"""Rollouts, hosts and what goes over the agents' link: messages to values and back."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf import duration_pb2, json_format

from keeptune.deployment.fleet import (
    Action,
    Host,
    HostInfo,
    OrderKind,
    Report,
    Served,
    SignalNote,
    Statistics,
)
from keeptune.deployment.rollout import HostProgress, Rollout, Strategy
from keeptune.runtime.convert import metadata, to_duration, to_timestamp
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.records import Record
from keeptune.v1 import deployment_pb2, monitoring_pb2

MAX_SECONDS = 30 * 24 * 3600.0


def strategy_from_proto(message: deployment_pb2.RolloutStrategy, *, field: str) -> Strategy:
    """Unset means the default; a bake of zero that is set is no bake."""
    default = Strategy()
    stage_timeout = _duration(message, "stage_timeout", default.stage_timeout, field)
    if not stage_timeout:
        raise InvalidInput(
            field=f"{field}.stage_timeout", problem="is zero", fix="leave it unset for 300 s"
        )
    return Strategy(
        canary_hosts=message.canary_hosts or default.canary_hosts,
        wave_size=message.wave_size,
        bake=_duration(message, "bake", default.bake, field),
        min_bake_requests=message.min_bake_requests,
        stage_timeout=stage_timeout,
    )


def _duration(
    message: deployment_pb2.RolloutStrategy, name: str, default: timedelta, field: str
) -> timedelta:
    if not message.HasField(name):  # type: ignore[arg-type]
        return default
    value: duration_pb2.Duration = getattr(message, name)
    seconds = value.seconds + value.nanos / 1e9
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidInput(
            field=f"{field}.{name}",
            problem=f"is {seconds:g} s",
            fix=f"give 0 to {MAX_SECONDS:g} s (30 days)",
        )
    return value.ToTimedelta()


def strategy_to_proto(strategy: Strategy) -> deployment_pb2.RolloutStrategy:
    return deployment_pb2.RolloutStrategy(
        canary_hosts=strategy.canary_hosts,
        wave_size=strategy.wave_size,
        bake=to_duration(strategy.bake),
        min_bake_requests=strategy.min_bake_requests,
        stage_timeout=to_duration(strategy.stage_timeout),
    )


def rollout_to_proto(record: Record[Rollout]) -> deployment_pb2.Rollout:
    rollout = record.doc
    return deployment_pb2.Rollout(
        name=record.name,
        version=rollout.version,
        evaluation=rollout.evaluation,
        strategy=strategy_to_proto(rollout.strategy),
        labels=dict(record.labels),
        state=deployment_pb2.RolloutState.Value(f"ROLLOUT_STATE_{rollout.state}"),
        reason=rollout.reason,
        next_step=rollout.next_step,
        metadata=metadata(record),
        end_time=to_timestamp(rollout.end_time),
        previous_version=rollout.previous,
        hosts=[_progress_to_proto(each) for each in rollout.hosts],
        wave=rollout.wave,
    )


def _progress_to_proto(host: HostProgress) -> deployment_pb2.HostRollout:
    return deployment_pb2.HostRollout(
        host=host.host,
        stage=deployment_pb2.HostStage.Value(f"HOST_STAGE_{host.stage}"),
        reason=host.reason,
        wave=host.wave,
        stage_time=to_timestamp(host.stage_time),
        requests=host.requests,
        failures=host.failures,
    )


def info_from_proto(message: deployment_pb2.HostInfo) -> HostInfo:
    return HostInfo(
        agent_version=message.agent_version,
        triton_version=message.triton_version,
        backends=tuple(message.backends),
        labels=dict(message.labels),
        agent_rss_bytes=message.agent_rss_bytes,
        triton_ready=message.triton_ready,
    )


def report_from_proto(
    message: deployment_pb2.HostReport | deployment_pb2.AgentHello,
) -> Report:
    return Report(
        info_from_proto(message.info), tuple(_served_from_proto(each) for each in message.models)
    )


def _served_from_proto(message: deployment_pb2.ServedModel) -> Served:
    statistics = message.statistics
    return Served(
        model=message.model,
        serving=message.serving,
        standby=message.standby,
        staged=message.staged,
        statistics=Statistics(
            version=statistics.version,
            requests=statistics.requests,
            failures=statistics.failures,
            mean_latency_ms=statistics.mean_latency_ms,
            mean_queue_ms=statistics.mean_queue_ms,
            sampled=statistics.sampled,
            dropped=statistics.dropped,
            outcomes=statistics.outcomes,
            recent_accuracy=(
                statistics.recent_accuracy if statistics.HasField("recent_accuracy") else None
            ),
            drift_level=statistics.drift_level,
            sampling_rate=statistics.sampling_rate,
            captures_pending=statistics.captures_pending,
        ),
        healthy=message.healthy,
        reason=message.reason,
    )


def _served_to_proto(served: Served) -> deployment_pb2.ServedModel:
    statistics = served.statistics
    return deployment_pb2.ServedModel(
        model=served.model,
        serving=served.serving,
        standby=served.standby,
        staged=served.staged,
        statistics=monitoring_pb2.ServingStatistics(
            version=statistics.version,
            requests=statistics.requests,
            failures=statistics.failures,
            mean_latency_ms=statistics.mean_latency_ms,
            mean_queue_ms=statistics.mean_queue_ms,
            sampled=statistics.sampled,
            dropped=statistics.dropped,
            outcomes=statistics.outcomes,
            recent_accuracy=statistics.recent_accuracy,
            drift_level=statistics.drift_level,
            sampling_rate=statistics.sampling_rate,
            captures_pending=statistics.captures_pending,
        ),
        healthy=served.healthy,
        reason=served.reason,
    )


def host_to_proto(
    record: Record[Host], report: Report, last_seen: datetime | None
) -> deployment_pb2.Host:
    host, info = record.doc, report.info
    return deployment_pb2.Host(
        name=record.name,
        state=deployment_pb2.HostState.Value(f"HOST_STATE_{host.state}"),
        reason=host.reason,
        metadata=metadata(record),
        last_seen_time=to_timestamp(last_seen),
        info=deployment_pb2.HostInfo(
            agent_version=info.agent_version,
            triton_version=info.triton_version,
            backends=info.backends,
            labels=info.labels,
            agent_rss_bytes=info.agent_rss_bytes,
            triton_ready=info.triton_ready,
        ),
        models=[_served_to_proto(each) for each in report.models],
        recent_signals=[
            json_format.Parse(note.body, monitoring_pb2.Signal(), ignore_unknown_fields=True)
            for note in host.signals
        ],
    )


def signal_from_proto(message: monitoring_pb2.Signal, host: str) -> SignalNote:
    """The signal as kept; it is this host's, whatever it says."""
    kept = monitoring_pb2.Signal()
    kept.CopyFrom(message)
    kept.host = host
    return SignalNote(message.id, json_format.MessageToJson(kept, indent=None))


def order_to_proto(
    order_id: str, sequence: int, model: str, action: Action
) -> deployment_pb2.Order:
    """An order without what it carries beside the action (see `StageVersion`)."""
    order = deployment_pb2.Order(id=order_id, sequence=sequence, model=model)
    match action.kind:
        case OrderKind.STAGE:
            order.stage.version.name = action.version
        case OrderKind.PROMOTE:
            order.promote.version = action.version
            order.promote.bake.FromTimedelta(action.bake)
        case OrderKind.FINISH:
            order.finish.version = action.version
        case OrderKind.ROLL_BACK:
            order.roll_back.version = action.version
            order.roll_back.to_version = action.to_version
            order.roll_back.reason = action.reason
        case OrderKind.CONFIGURE:
            order.configure.SetInParent()
        case OrderKind.REMOVE:
            order.remove.SetInParent()
    return order
