"""What the tools find in the cluster: CRDs, accounts, and a count of each one's requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import yaml

from bench.peers.tools import Json, Tool
from lab.cluster.identity import write_kubeconfig
from lab.handle import Lab
from lab.node.client import ApiClient, ApiError

_TOKEN_S = 24 * 3600
_SERVED_S = 30.0
_OURS = ("phasegate-system", "phasegate")
"""Namespace and name of the account that config/rbac gives the operator its rights by."""
# Of Traefik's kind only what a router has to find; a schema would not change what is measured.
_TRAEFIK: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "traefikservices.traefik.io"},
    "spec": {
        "group": "traefik.io",
        "scope": "Namespaced",
        "names": {
            "kind": "TraefikService",
            "plural": "traefikservices",
            "singular": "traefikservice",
            "listKind": "TraefikServiceList",
        },
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


async def install(api: ApiClient, files: Iterable[Path]) -> None:
    """Create the CRDs and wait until they are served."""
    crds = [_TRAEFIK]
    for file in files:
        found = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
        crds += [item for item in found if item]
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for crd in crds:
        await create(api, path, crd)
    for crd in crds:
        spec = crd["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        await _until_served(api, served)


async def _until_served(api: ApiClient, path: str) -> None:
    await _patiently(lambda: api.get(path))


async def create(api: ApiClient, path: str, item: Json) -> None:
    """Create an object; one that is there already stays as it is."""
    try:
        await _patiently(lambda: api.request("POST", path, item))
    except ApiError as error:
        if error.status != 409:
            raise


async def delete(api: ApiClient, path: str) -> None:
    """Delete an object, if it is there."""
    try:
        await api.request("DELETE", path)
    except ApiError as error:
        if error.status != 404:
            raise


async def _patiently(ask: Callable[[], Awaitable[Json]]) -> Json:
    """Ask until a kind that was only just made known is served."""
    async with asyncio.timeout(_SERVED_S):
        while True:
            try:
                return await ask()
            except ApiError as error:
                if error.status not in (0, 404, 429, 503):
                    raise
            await asyncio.sleep(0.1)


_PLURALS = {
    "AgentDeployment": "agentdeployments",
    "AnalysisTemplate": "analysistemplates",
    "Canary": "canaries",
    "Deployment": "deployments",
    "MetricTemplate": "metrictemplates",
    "RollbackPolicy": "rollbackpolicies",
    "Rollout": "rollouts",
    "Service": "services",
    "TraefikService": "traefikservices",
}


def collection(item: Json, namespace: str) -> str:
    """The path of the collection an object belongs to."""
    version = item["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{_PLURALS[item['kind']]}"


async def account(api: ApiClient, lab: Lab, tool: Tool) -> Path:
    """A namespace for a tool's subjects, and a kubeconfig of an account of its own.

    Phasegate has the rights it is installed with; the peers may do everything.
    """
    await create(api, "/api/v1/namespaces", {"metadata": {"name": tool.namespace}})
    namespace, name = _account(tool)
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await create(api, accounts, {"metadata": {"name": name}})
    if (namespace, name) != _OURS:
        await create(
            api, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _everything(tool)
        )
    answer = await api.request(
        "POST", f"{accounts}/{name}/token", {"spec": {"expirationSeconds": _TOKEN_S}}
    )
    path = lab.state.kubeconfig(f"peers-{tool.namespace}")
    ca = (lab.state.dir / "pki" / "ca.crt").read_text()
    write_kubeconfig(path, tool.namespace, answer["status"]["token"], ca)
    return path


def _account(tool: Tool) -> tuple[str, str]:
    return _OURS if tool.namespace == "phasegate" else (tool.namespace, "controller")


def _everything(tool: Tool) -> Json:
    namespace, name = _account(tool)
    return {
        "metadata": {"name": f"bench-{tool.namespace}"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }


# --- counting -------------------------------------------------------------------------------------


def _schema(tool: Tool) -> str:
    return f"bench-{tool.namespace}"


async def count_calls(api: ApiClient, tools: Sequence[Tool]) -> None:
    """A FlowSchema for each tool: the API server then counts its requests apart."""
    group = "flowcontrol.apiserver.k8s.io"
    for tool in tools:
        namespace, name = _account(tool)
        who = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rule = {
            "subjects": [who],
            "resourceRules": [{**everything, "clusterScope": True, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
        schema = {
            "apiVersion": f"{group}/v1",
            "kind": "FlowSchema",
            "metadata": {"name": _schema(tool)},
            "spec": {
                "matchingPrecedence": 100,
                "priorityLevelConfiguration": {"name": "workload-high"},
                "rules": [rule],
            },
        }
        await create(api, f"/apis/{group}/v1/flowschemas", schema)


async def calls(lab: Lab, tool: Tool) -> float:
    """How many requests of the tool the API server has let in, watches among them."""
    text = await asyncio.to_thread(lab.kubectl, "get", "--raw", "/metrics")
    wanted = f'flow_schema="{_schema(tool)}"'
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("apiserver_flowcontrol_dispatched_requests_total{") and wanted in line
    )


# --- refusing -------------------------------------------------------------------------------------

_REFUSAL = "bench-refuses-route-writes"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


async def refuse(api: ApiClient, probe: str) -> float:
    """Have every change of a route refused; returns when it is so (seconds since the epoch).

    `probe`: path of a route that can be written to see it.
    """
    rule = {
        "apiGroups": ["gateway.networking.k8s.io", "traefik.io"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["httproutes", "traefikservices"],
    }
    policy = {
        "metadata": {"name": _REFUSAL},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "routes are closed"}],
        },
    }
    spec = {"policyName": _REFUSAL, "validationActions": ["Deny"]}
    binding = {"metadata": {"name": _REFUSAL}, "spec": spec}
    await create(api, f"{_ADMISSION}/validatingadmissionpolicies", policy)
    await create(api, f"{_ADMISSION}/validatingadmissionpolicybindings", binding)
    return await _probe(api, probe, accepted=False)


async def accept(api: ApiClient, probe: str) -> float:
    """Have changes accepted again; returns when they are (seconds since the epoch)."""
    await api.request("DELETE", f"{_ADMISSION}/validatingadmissionpolicybindings/{_REFUSAL}")
    await api.request("DELETE", f"{_ADMISSION}/validatingadmissionpolicies/{_REFUSAL}")
    return await _probe(api, probe, accepted=True)


async def _probe(api: ApiClient, path: str, *, accepted: bool) -> float:
    async with asyncio.timeout(_SERVED_S):
        while True:
            if await _writable(api, path) == accepted:
                return time.time()
            await asyncio.sleep(0.01)


async def _writable(api: ApiClient, path: str) -> bool:
    patch = {"metadata": {"annotations": {"bench": str(time.time_ns())}}}
    try:
        await api.request(
            "PATCH", path, patch, "application/merge-patch+json", params={"dryRun": "All"}
        )
    except ApiError as error:
        if error.status != 422:
            raise
        return False
    return True
