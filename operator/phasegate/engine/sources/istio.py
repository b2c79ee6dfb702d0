"""Istio's standard metrics, as the proxy beside (or before) the agent counts them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import Identity, RatioSource, Source, latency, narrowed, volume

_CALLS: Final = Selector("istio_requests_total")

ISTIO: Final = Source(
    emitter="Istio's sidecar or waypoint proxies",
    checked="the documentation of Istio 1.30 (standard metrics); not scraped",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(
                _CALLS, bad=narrowed(_CALLS, Matcher("response_code", "=~", "5.."))
            ),
            **latency(Selector("istio_request_duration_milliseconds"), scale=0.001),
            **volume(_CALLS),
        }
    ),
    identity=Identity(
        labels=(
            ("destination_workload_namespace", "{namespace}"),
            ("destination_workload", "{workload}"),
        ),
        # Every call is reported by both ends: one of them must be chosen, or it counts twice. With
        # waypoints (ambient) the waypoint speaks for the destination.
        fixed=(Matcher("reporter", "=~", "destination|waypoint"),),
    ),
)
