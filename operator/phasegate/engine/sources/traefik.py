"""Traefik's service metrics, one service for each backendRef of a route."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import Identity, RatioSource, Source, latency, narrowed, volume

_CALLS: Final = Selector("traefik_service_requests_total")

TRAEFIK: Final = Source(
    emitter="Traefik with the Kubernetes Gateway provider",
    checked="the source and documentation of Traefik 3.7; not scraped",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(_CALLS, bad=narrowed(_CALLS, Matcher("code", "=~", "5.."))),
            # Its default buckets end at 5 s; `metrics.prometheus.buckets` sets others.
            **latency(Selector("traefik_service_request_duration_seconds")),
            **volume(_CALLS),
        }
    ),
    identity=Identity(
        labels=(),
        # The name has the gateway, its listener and a hash in its middle.
        patterns=(
            (
                "service",
                "httproute-{namespace}-{agent}-gw-.+-svc-{namespace}-{workload}-[0-9]+"
                "@kubernetesgateway",
            ),
        ),
    ),
)
