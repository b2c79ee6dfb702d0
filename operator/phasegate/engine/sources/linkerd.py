"""Linkerd's route metrics, as the proxies of all clients count them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import Identity, RatioSource, Source, latency, narrowed, volume

_ANSWERS: Final = Selector("outbound_http_route_backend_response_statuses_total")

LINKERD: Final = Source(
    emitter="Linkerd's proxies beside the clients (or the gateway)",
    checked="the documentation of Linkerd 2.19 and the label names in its own CLI; not scraped",
    calls=_ANSWERS,
    metrics=MappingProxyType(
        {
            # A call without an answer has no status: `error` says why (REQUEST_TIMEOUT and such).
            "error-rate": RatioSource(
                _ANSWERS, bad=narrowed(_ANSWERS, Matcher("http_status", "=~", "5..|"))
            ),
            **latency(Selector("outbound_http_route_backend_response_duration_seconds")),
            **volume(_ANSWERS),
        }
    ),
    identity=Identity(
        labels=(("backend_namespace", "{namespace}"), ("backend_name", "{workload}")),
        fixed=(Matcher("backend_kind", "=", "Service"),),
    ),
)
