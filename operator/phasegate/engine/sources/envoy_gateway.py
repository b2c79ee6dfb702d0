"""Envoy's own statistics, one cluster for each backendRef of a route (Envoy Gateway).

Envoy Gateway makes a cluster for each backendRef only where one of them has a filter: Phasegate's
have x-agent-revision. Otherwise a rule is one cluster, and nothing tells its backends apart.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import Identity, RatioSource, Source, latency, narrowed, volume

_ANSWERS: Final = Selector("envoy_cluster_upstream_rq_xx")
_CALLS: Final = Selector("envoy_cluster_upstream_rq_total")
_CLUSTER: Final = "envoy_cluster_name"

ENVOY_GATEWAY: Final = Source(
    emitter="Envoy Gateway's proxies",
    checked="Envoy 1.40.0 under Envoy Gateway 1.9.1, scraped in the lab",
    calls=Selector("envoy_cluster_upstream_rq_completed"),
    metrics=MappingProxyType(
        {
            # Answers of all classes add up to the answers; rq_total also has what is still running.
            "error-rate": RatioSource(
                _ANSWERS, bad=narrowed(_ANSWERS, Matcher("envoy_response_code_class", "=", "5"))
            ),
            "hang-rate": RatioSource(_CALLS, bad=Selector("envoy_cluster_upstream_rq_timeout")),
            **latency(Selector("envoy_cluster_upstream_rq_time"), scale=0.001),
            **volume(_CALLS),
        }
    ),
    identity=Identity(
        labels=((_CLUSTER, "httproute/{namespace}/{agent}/rule/0/backend/{slot}"),),
        mirrored=((_CLUSTER, "httproute/{namespace}/{agent}/rule/0-mirror-0"),),
    ),
)
