"""The Python client: studies from your own code, policies, and every RPC.

    from keeptune.client import Client, Float

    client = Client()
    study = client.create_study({"x": Float(-1, 1)}, metric="loss", goal="minimize", budget=20)
    study.optimize(lambda trial: trial.parameters["x"] ** 2)
    print(study.best)

async_client, async_study, async_trial   what it does, for programs with an event loop
early_failures                           when a loop of trials is given up
sync_client, study, loop_thread          the same surface without one
space, settings, values, results, insight
                                         what goes in and comes out, in Python's own terms
connection                               where the services are, and what to show there
services, stubs, reach, persistence      the RPCs: typed errors, request ids, retries, resuming
nouns, resources                         fetching, listing and watching any resource alike
manifest                                 YAML files to messages
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keeptune.client import errors
    from keeptune.client.async_client import AsyncClient
    from keeptune.client.async_study import AsyncStudy
    from keeptune.client.async_trial import AsyncTrial
    from keeptune.client.insight import Dependence, Importance, ModelChoice, Outlook, Share
    from keeptune.client.results import (
        Front,
        PolicyStatus,
        RetuneStatus,
        StudyEvent,
        StudyStatus,
        TrialResult,
    )
    from keeptune.client.settings import Asha, Forecast, Hyperband, Median, Metric
    from keeptune.client.space import Between, Choice, Fixed, Float, Graph, Int, Kind
    from keeptune.client.study import Study, Trial
    from keeptune.client.sync_client import Client
    from keeptune.client.values import GraphValue, Node

__all__ = [
    "Asha",
    "AsyncClient",
    "AsyncStudy",
    "AsyncTrial",
    "Between",
    "Choice",
    "Client",
    "Dependence",
    "Fixed",
    "Float",
    "Forecast",
    "Front",
    "Graph",
    "GraphValue",
    "Hyperband",
    "Importance",
    "Int",
    "Kind",
    "Median",
    "Metric",
    "ModelChoice",
    "Node",
    "Outlook",
    "PolicyStatus",
    "RetuneStatus",
    "Share",
    "Study",
    "StudyEvent",
    "StudyStatus",
    "Trial",
    "TrialResult",
    "errors",
]

# Imported when they are asked for: gRPC takes its time.
_HOMES = {
    "async_client": ("AsyncClient",),
    "async_study": ("AsyncStudy",),
    "async_trial": ("AsyncTrial",),
    "insight": ("Dependence", "Importance", "ModelChoice", "Outlook", "Share"),
    "results": (
        "Front",
        "PolicyStatus",
        "RetuneStatus",
        "StudyEvent",
        "StudyStatus",
        "TrialResult",
    ),
    "settings": ("Asha", "Forecast", "Hyperband", "Median", "Metric"),
    "space": ("Between", "Choice", "Fixed", "Float", "Graph", "Int", "Kind"),
    "study": ("Study", "Trial"),
    "sync_client": ("Client",),
    "values": ("GraphValue", "Node"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("keeptune.client.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"keeptune.client.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
