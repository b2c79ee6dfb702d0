"""What a gateway can do: from the administrator, from itself, or from what is known of its kind.

A filter that a gateway does not know makes it answer 500 to every request of the rule, so what is
not known counts as not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from phasegate.control.ports import Manifest
from phasegate.rollout.observed import Capabilities


@dataclass(frozen=True, slots=True)
class Features:
    """Extended features of the Gateway API that Phasegate makes use of."""

    mirror: bool = False
    mirror_percent: bool = False
    backend_headers: bool = False
    direct_response: bool = False
    """It knows Envoy Gateway's HTTPRouteFilter."""
    source: str = ""
    """Where this is known from."""

    def capabilities(self) -> Capabilities:
        """The part that decisions are made from."""
        return Capabilities(
            mirror=self.mirror, mirror_percent=self.mirror_percent, source=self.source
        )


UNKNOWN: Final = Features(source="nothing is known about this gateway")

ENVOY_GATEWAY: Final = "gateway.envoyproxy.io/gatewayclass-controller"
_ALL: Final = (True, True, True)
_TABLE: Final[Mapping[str, tuple[bool, bool, bool]]] = MappingProxyType(
    {  # the projects' conformance reports, Gateway API 1.3 to 1.6
        ENVOY_GATEWAY: _ALL,
        "istio.io/gateway-controller": _ALL,
        "io.cilium/gateway-controller": _ALL,
        "kgateway.dev/kgateway": _ALL,
        "agentgateway.dev/agentgateway": _ALL,
        "gateway.nginx.org/nginx-gateway-controller": (True, True, False),
        "networking.gke.io/gateway": (True, True, False),
        # Contour accepts a percentage and mirrors everything.
        "projectcontour.io/gateway-controller": (True, False, True),
        "solo.io/gloo-gateway": (True, False, False),
        # Traefik answers 500 to a rule with a mirror, and reports nothing.
        "traefik.io/gateway-controller": (False, False, True),
    }
)


def features_of(gateway_class: Manifest, configured: Mapping[str, Features]) -> Features:
    """What the gateways of a GatewayClass can do.

    The administrator's word (`configured`, by controllerName) counts most, for the gateway's own
    may be wrong; then ``status.supportedFeatures``; then the built-in table.
    """
    controller = str(gateway_class["spec"]["controllerName"])
    features = _features_of(controller, gateway_class, configured)
    return replace(features, direct_response=controller == ENVOY_GATEWAY)


def _features_of(
    controller: str, gateway_class: Manifest, configured: Mapping[str, Features]
) -> Features:
    if controller in configured:
        return configured[controller]
    reported = set(_names((gateway_class.get("status") or {}).get("supportedFeatures") or ()))
    if reported:
        return Features(
            mirror="HTTPRouteRequestMirror" in reported,
            mirror_percent="HTTPRouteRequestPercentageMirror" in reported,
            backend_headers="HTTPRouteBackendRequestHeaderModification" in reported,
            source=f"GatewayClass {gateway_class['metadata']['name']} status.supportedFeatures",
        )
    if controller in _TABLE:
        mirror, percent, headers = _TABLE[controller]
        return Features(mirror, percent, headers, source=f"known of {controller}")
    return UNKNOWN


def common(found: Iterable[Features]) -> Features:
    """What several gateways, all in front of one route, can do."""
    features = list(found)
    if not features:
        return UNKNOWN
    sources = dict.fromkeys(item.source for item in features)
    return Features(
        mirror=all(item.mirror for item in features),
        mirror_percent=all(item.mirror_percent for item in features),
        backend_headers=all(item.backend_headers for item in features),
        direct_response=all(item.direct_response for item in features),
        source="; ".join(sources),
    )


def _names(reported: Iterable[Any]) -> Iterable[str]:
    """Feature names: objects since Gateway API 1.4, plain strings before."""
    for item in reported:
        yield str(item["name"] if isinstance(item, Mapping) else item)
