"""The calls of SearchService that tell what a study has taught: validate, call, convert."""

from __future__ import annotations

from typing import Any

import grpc

from keeptune.search import convert_insight
from keeptune.search.insights import Insights
from keeptune.v1 import search_pb2, search_pb2_grpc

ServicerContext = grpc.aio.ServicerContext[Any, Any]


class InsightServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, insights: Insights) -> None:
        self._insights = insights

    async def GetParameterImportance(
        self, request: search_pb2.GetParameterImportanceRequest, context: ServicerContext
    ) -> search_pb2.ParameterImportance:
        found = await self._insights.importance(request.study, request.metric)
        return convert_insight.importance_to_proto(*found)

    async def GetPartialDependence(
        self, request: search_pb2.GetPartialDependenceRequest, context: ServicerContext
    ) -> search_pb2.PartialDependence:
        found = await self._insights.dependence(
            request.study, list(request.parameters), request.metric, request.points
        )
        return convert_insight.dependence_to_proto(*found)

    async def GetStudyOutlook(
        self, request: search_pb2.GetStudyOutlookRequest, context: ServicerContext
    ) -> search_pb2.StudyOutlook:
        tolerance = request.tolerance if request.HasField("tolerance") else None
        found = await self._insights.outlook(
            request.study, request.metric, request.trials, tolerance
        )
        return convert_insight.outlook_to_proto(found)
