"""Objects that the tests of this folder make at the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from phasegate.control.ports import Kind

HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
POLICY = Kind("phasegate.dev/v1alpha1", "RollbackPolicy", "rollbackpolicies")


def agent(namespace: str, name: str = "support", **gateway_api: Any) -> dict[str, Any]:
    """An AgentDeployment behind the lab's gateway."""
    parent = {"name": "lab", "namespace": "gateway"}
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "owner": {"rollbackOwner": "alice"},
            "policyRef": {"name": "strict"},
            "agent": {"sideEffects": "None"},
            "service": {"port": 8080},
            "template": {"spec": {"containers": [{"name": "agent", "image": "example.com/a:1"}]}},
            "traffic": {"gatewayAPI": {"parentRefs": [parent], **gateway_api}},
        },
    }


def service(namespace: str, name: str, port: int = 8080) -> dict[str, Any]:
    """A Service that no pod is behind."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }


def deployment(namespace: str, name: str, **container: Any) -> dict[str, Any]:
    """A Deployment without pods."""
    labels = {"app": name}
    containers = [{"name": "main", "image": "example.com/a:1", **container}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; the test's own time limit ends the asking."""
    while not await condition():  # noqa: ASYNC110 - nobody sets an event for what others do
        await asyncio.sleep(0)  # noqa: TID251
