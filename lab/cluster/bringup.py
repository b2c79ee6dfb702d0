"""The order in which a lab comes up: everything as soon as what it needs is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lab.cluster import controlplane, crds, gateway, identity, operator
from lab.cluster.part import Part, Spec
from lab.cluster.parts import Cluster
from lab.cluster.prometheus import prometheus
from lab.errors import LabError, StartFailed
from lab.node.client import ApiClient, ApiError
from lab.sandbox.network import MAIN_ADDRESS

Json = dict[str, Any]

_WAIT_S = 60.0
_POLL_S = 0.05
_PLURALS = {
    "CustomResourceDefinition": "customresourcedefinitions",
    "EnvoyProxy": "envoyproxies",
    "GatewayClass": "gatewayclasses",
}


async def bring_up(cluster: Cluster) -> None:
    """Start all parts and wait until a request could be routed.

    Raises LabError with the last words of the part that failed.
    """
    cluster.identity = who = identity.create(cluster.state)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_control_plane(cluster, who))
            group.create_task(_envoy(cluster))
            group.create_task(_start(cluster, prometheus(cluster.binaries, cluster.state)))
    except* LabError as errors:
        raise _first(errors) from None


def _first(errors: BaseException) -> LabError:
    """The error that came first; the others only lost what they were waiting for."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors if isinstance(errors, LabError) else StartFailed(repr(errors))


async def _start(cluster: Cluster, spec: Spec) -> None:
    if spec.name not in cluster.without:
        await cluster.start(spec)


async def _envoy(cluster: Cluster) -> None:
    """Certificates, then Envoy, which keeps asking until its controller is there."""
    spec = gateway.certgen(cluster.binaries, cluster.state)
    await Part(spec, cluster.state, died=lambda _: None).start()
    await _start(cluster, gateway.envoy(cluster.state))


async def _control_plane(cluster: Cluster, who: identity.Identity) -> None:
    state, binaries = cluster.state, cluster.binaries
    await cluster.start(controlplane.etcd(binaries, state))
    await cluster.start(controlplane.apiserver(binaries, who))
    async with cluster.client() as client, asyncio.TaskGroup() as group:
        manager = controlplane.controller_manager(binaries, who, state)
        group.create_task(_start(cluster, manager))
        group.create_task(_node(cluster, client))
        group.create_task(_gateway(cluster, client))


async def _node(cluster: Cluster, client: ApiClient) -> None:
    if "node" in cluster.without:
        return
    await cluster.start(controlplane.node(cluster.state))
    await _until("the node's condition Ready", lambda: _any_node_ready(client))


async def _any_node_ready(client: ApiClient) -> bool:
    nodes = (await client.get("/api/v1/nodes"))["items"]
    return any(_condition(node["status"].get("conditions", ()), "Ready") for node in nodes)


def _condition(conditions: Any, kind: str) -> bool:
    return any(item["type"] == kind and item["status"] == "True" for item in conditions)


async def _gateway(cluster: Cluster, client: ApiClient) -> None:
    started = time.monotonic()
    shipped = await asyncio.to_thread(crds.load, cluster.binaries)
    first = [*gateway.first_namespaces(), *shipped]
    await asyncio.gather(*(_create(client, item) for item in first))
    cluster.say(f"{'gateway CRDs':<24} there in {time.monotonic() - started:.1f} s")
    ours = asyncio.ensure_future(operator.install(cluster.state))
    try:
        await _controller(cluster, client)
    finally:
        applied = await ours
    if applied:
        cluster.say(f"{', '.join(applied)} applied")


async def _controller(cluster: Cluster, client: ApiClient) -> None:
    if "envoy-gateway" in cluster.without:
        return
    await _until("Envoy Gateway's certificates", gateway.certified(cluster.state))
    secrets = gateway.secrets(cluster.state)
    await asyncio.gather(*(_create(client, item) for item in [*secrets, *gateway.objects()]))
    await client.request(
        "PATCH",
        f"/api/v1/namespaces/{gateway.CONTROLLER_NAMESPACE}/services/"
        f"envoy-{gateway.NAMESPACE}-{gateway.NAME}/status",
        {"status": {"loadBalancer": {"ingress": [{"ip": MAIN_ADDRESS}]}}},
        content_type="application/merge-patch+json",
    )
    await cluster.start(gateway.controller(cluster.binaries, cluster.state))
    await _until("the Gateway's condition Programmed", lambda: _programmed(client))
    if "envoy" not in cluster.without:
        await _until("a first routed request", gateway.routes())


async def _programmed(client: ApiClient) -> bool:
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{gateway.NAMESPACE}/gateways"
    found = await client.get(f"{path}/{gateway.NAME}")
    return _condition(found.get("status", {}).get("conditions", ()), "Programmed")


async def _create(client: ApiClient, item: Json) -> None:
    group, _, version = item["apiVersion"].rpartition("/")
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if namespace := item["metadata"].get("namespace"):
        path += f"/namespaces/{namespace}"
    plural = _PLURALS.get(item["kind"], item["kind"].lower() + "s")

    async def created() -> bool:
        try:
            await client.request("POST", f"{path}/{plural}", item)
        except ApiError as error:
            if error.status not in (0, 404, 409, 429, 503):  # 404: a CRD not served yet
                raise
            return error.status == 409
        return True

    await _until(f"{item['kind']} {item['metadata']['name']}", created)


async def _until(what: str, check: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not await check():
        if time.monotonic() > deadline:
            raise StartFailed(f"Gave up after {_WAIT_S:.0f} s of waiting for {what}.")
        await asyncio.sleep(_POLL_S)
