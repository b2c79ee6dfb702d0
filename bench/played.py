"""What benchmarks play of a gateway: it is there, and does at once what every route says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

NAMESPACE = "default"
ROUTES = "/apis/gateway.networking.k8s.io/v1"
_VERSION = "gateway.networking.k8s.io/v1"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"


def gateway(name: str, class_name: str) -> Iterator[tuple[str, Json]]:
    """A Gateway of Envoy Gateway's class, of any namespace's routes: collections and objects."""
    yield (
        f"{ROUTES}/gatewayclasses",
        {
            "apiVersion": _VERSION,
            "kind": "GatewayClass",
            "metadata": {"name": class_name},
            "spec": {"controllerName": _CONTROLLER},
        },
    )
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    listener |= {"allowedRoutes": {"namespaces": {"from": "All"}}}
    yield (
        f"{ROUTES}/namespaces/{NAMESPACE}/gateways",
        {
            "apiVersion": _VERSION,
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"gatewayClassName": class_name, "listeners": [listener]},
        },
    )


def accepted(route: Json) -> Json | None:
    """The status of a route that its gateways do as it says now; None if it is said already."""
    generation = route["metadata"]["generation"]
    parents = route.get("status", {}).get("parents", ())
    seen = {c["observedGeneration"] for parent in parents for c in parent["conditions"]}
    if generation in seen:
        return None
    news = [
        {**condition, "observedGeneration": generation, "message": ""}
        for condition in conditions("Accepted", "ResolvedRefs")
    ]
    return {
        "parents": [
            {"parentRef": parent, "controllerName": _CONTROLLER, "conditions": news}
            for parent in route["spec"]["parentRefs"]
        ]
    }


def conditions(*kinds: str) -> Iterator[Json]:
    """Conditions that are True from now on."""
    for kind in kinds:
        yield {"type": kind, "status": "True", "reason": "Played", "lastTransitionTime": now()}


def now() -> str:
    """The time, as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
