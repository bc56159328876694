"""What was learned from a study to protobuf."""

from __future__ import annotations

from keeptune.search.convert_space import value_to_proto
from keeptune.search.extent import Extent
from keeptune.search.insight import wording
from keeptune.search.insight.dependence import Dependence
from keeptune.search.insight.forest import Forest
from keeptune.search.insight.importance import Importance
from keeptune.search.insights import Prospect
from keeptune.v1 import search_pb2


def importance_to_proto(
    metric: str, forest: Forest, found: Importance
) -> search_pb2.ParameterImportance:
    return search_pb2.ParameterImportance(
        metric=metric,
        importances=[
            search_pb2.Importance(
                parameter=share.parameters[0],
                value=share.value,
                standard_error=share.standard_error,
                low=share.low,
                high=share.high,
            )
            for share in found.main
        ],
        interactions=[
            search_pb2.InteractionImportance(
                parameters=share.parameters,
                value=share.value,
                standard_error=share.standard_error,
                low=share.low,
                high=share.high,
            )
            for share in found.interactions
        ],
        trials=forest.trials,
        trees=forest.trees,
        r_squared=forest.r_squared,
        remark=wording.remark(forest),
    )


def dependence_to_proto(
    metric: str, forest: Forest, found: Dependence
) -> search_pb2.PartialDependence:
    return search_pb2.PartialDependence(
        metric=metric,
        axes=[
            search_pb2.DependenceAxis(
                parameter=axis.parameter, values=[value_to_proto(value) for value in axis.values]
            )
            for axis in found.axes
        ],
        mean=found.mean.ravel().tolist(),
        low=found.low.ravel().tolist(),
        high=found.high.ravel().tolist(),
        trials=forest.trials,
        trees=forest.trees,
        r_squared=forest.r_squared,
        remark=wording.remark(forest),
    )


def hypervolume_to_proto(found: Extent | None) -> search_pb2.Hypervolume | None:
    if found is None:
        return None
    return search_pb2.Hypervolume(value=found.volume, reference_point=found.reference)


def outlook_to_proto(prospect: Prospect) -> search_pb2.StudyOutlook:
    found, metric = prospect.found, prospect.metric
    low, high = sorted((metric.loss(found.low), metric.loss(found.high)))
    return search_pb2.StudyOutlook(
        metric=metric.name,
        trials=found.trials,
        further_trials=found.further,
        best=metric.loss(found.best),
        best_trial=prospect.best_trial,
        expected_best=metric.loss(found.expected),
        expected_best_low=low,
        expected_best_high=high,
        improvement_probability=found.probability,
        tolerance=found.tolerance,
        regret=found.regret,
        regret_low=found.regret_low,
        regret_high=found.regret_high,
        advice=search_pb2.Advice.Value(f"ADVICE_{found.advice.name}"),
        verdict=wording.verdict(found, f"{found.tolerance:.3g}"),
        evidence=wording.evidence(found, prospect.records, metric.loss(1.0)),
        by_model=_choice_to_proto(prospect),
    )


def _choice_to_proto(prospect: Prospect) -> search_pb2.ModelChoice | None:
    found, metric = prospect.choice, prospect.metric
    if found is None:
        return None
    low, high = sorted((metric.loss(found.low), metric.loss(found.high)))
    return search_pb2.ModelChoice(
        trial=f"{prospect.best_trial.rpartition('/')[0]}/{found.number}",
        measured=found.measured,
        expected=metric.loss(found.expected),
        expected_low=low,
        expected_high=high,
        noise=found.noise,
        probability=found.probability,
        remark=wording.choice(found, metric.loss(1.0)),
    )
