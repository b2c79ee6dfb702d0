"""Where the kinds that only adapters touch live, and the list of all that the operator writes."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from phasegate.control import kinds
from phasegate.control.lease import LEASE
from phasegate.control.ports import Kind
from phasegate.control.rights import OWN_ACCESS_REVIEW

_GATEWAY_API: Final = "gateway.networking.k8s.io/v1"

HTTP_ROUTE: Final = Kind(_GATEWAY_API, "HTTPRoute", "httproutes")
HTTP_ROUTE_FILTER: Final = Kind(
    "gateway.envoyproxy.io/v1alpha1", "HTTPRouteFilter", "httproutefilters"
)
"""Envoy Gateway's own."""
GATEWAY: Final = Kind(_GATEWAY_API, "Gateway", "gateways")
GATEWAY_CLASS: Final = Kind(_GATEWAY_API, "GatewayClass", "gatewayclasses")
EVENT: Final = Kind("events.k8s.io/v1", "Event", "events")
TOKEN_REVIEW: Final = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
SUBJECT_ACCESS_REVIEW: Final = Kind(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews"
)

WRITTEN: Final[tuple[Kind, ...]] = (
    kinds.AGENT_DEPLOYMENT,
    kinds.AGENT_ROLLOUT,
    kinds.ROLLBACK_POLICY,
    kinds.ROLLOUT_ACTION,
    kinds.CONFIG_MAP,
    kinds.SERVICE,
    kinds.DEPLOYMENT,
    kinds.CONTROLLER_REVISION,
    HTTP_ROUTE,
    HTTP_ROUTE_FILTER,
    LEASE,
    EVENT,
    TOKEN_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    OWN_ACCESS_REVIEW,
)
"""Kinds that are created or applied: a manifest names its kind, a URL needs the plural."""


def path_of(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    """Where the API server has the objects of a kind, or one of them."""
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")
