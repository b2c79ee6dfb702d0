"""The objects of the fleet, and what is known of them from watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.played import NAMESPACE, ROUTES, gateway
from lab.errors import LabError
from lab.node.client import MERGE_PATCH, ApiClient, ApiError

Json = dict[str, Any]

PER_NAMESPACE = 50
IDLE_WEIGHT = 1
_WRITERS = 24
_GROUP = "/apis/phasegate.dev/v1alpha1"
_CANARY = {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "24h"}
_FULL = {"name": "full", "type": "Full", "minDuration": "24h"}
_METRICS = (
    {"name": "error-rate", "gate": {"below": "5%"}, "rollback": {"above": "5%"}, "baseline": {}},
    {"name": "escalation-rate", "rollback": {"above": "50%"}},
    {"name": "latency-p95", "rollback": {"above": "5s"}, "baseline": {}},
    {"name": "cost-per-call", "baseline": {}},
    {"name": "tokens-per-call", "baseline": {}},
    {"name": "accuracy", "rollback": {"below": "85%"}},
    {"name": "safety-flags", "rollback": {"above": "0"}},
)

Name = tuple[str, str]
"""Namespace and name of an agent."""


def names(first: int, last: int) -> list[Name]:
    """Agents number `first` to `last` - 1."""
    return [(f"fleet-{n // PER_NAMESPACE:03}", f"agent-{n:05}") for n in range(first, last)]


def agent(name: str) -> Json:
    """An agent with one pod, one canary phase that lasts, and seven metrics."""
    spec = {
        "agent": {"systemPrompt": "You are the support agent.", "sideEffects": "None"},
        "template": {"spec": {"containers": [{"name": "agent", "image": "example.com/agent:1"}]}},
        "service": {"port": 8080},
        "traffic": {
            "gatewayAPI": {
                "parentRefs": [{"name": "fleet", "namespace": NAMESPACE}],
                "hostnames": [f"{name}.example.com"],
            }
        },
        "strategy": {"phases": [_CANARY, _FULL]},
        "policyRef": {"name": "fleet"},
    }
    return _object("phasegate.dev/v1alpha1", "AgentDeployment", name, spec)


def _object(version: str, kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


class World:
    """Creates and changes the fleet; follows its agents and routes."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._namespaces: set[str] = set()
        self.statuses: dict[Name, Json] = {}
        self.taken_back: dict[Name, float] = {}
        """When the write that took all users from a candidate was seen, in unix seconds."""
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Keep what is known up to date, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(f"{_GROUP}/agentdeployments", self._agent))
            group.create_task(self._follow(f"{ROUTES}/httproutes", self._route))

    async def _follow(self, path: str, take: Callable[[Name, Json], None]) -> None:
        async for change in self._api.follow(path):
            for item in change.objects:
                take((item["metadata"]["namespace"], item["metadata"]["name"]), item)
            self._changed.set()

    def _agent(self, name: Name, item: Json) -> None:
        self.statuses[name] = item.get("status") or {}

    def _route(self, name: Name, item: Json) -> None:
        if "phasegate.dev/rollback" not in item["metadata"].get("annotations", {}):
            return
        weights = sorted(ref["weight"] for ref in item["spec"]["rules"][0]["backendRefs"])
        if weights[0] == IDLE_WEIGHT:
            self.taken_back.setdefault(name, time.time())

    async def until(self, what: str, met: Callable[[], bool], seconds: float) -> None:
        """Wait until `met`. Raises LabError after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not met():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LabError(f"Gave up after {seconds:.0f} s of waiting for {what}") from None

    async def create(self, wanted: Iterable[Name]) -> None:
        """Create agents, with their namespaces and policies."""
        new = list(wanted)
        for namespace in sorted({namespace for namespace, _ in new} - self._namespaces):
            await self._post("/api/v1/namespaces", _object("v1", "Namespace", namespace, {}))
            policy = _object(
                "phasegate.dev/v1alpha1", "RollbackPolicy", "fleet", {"metrics": list(_METRICS)}
            )
            await self._post(f"{_GROUP}/namespaces/{namespace}/rollbackpolicies", policy)
            self._namespaces.add(namespace)
        await self._each(
            new,
            lambda name: self._post(
                f"{_GROUP}/namespaces/{name[0]}/agentdeployments", agent(name[1])
            ),
        )

    async def edit(self, wanted: Iterable[Name], prompt: str) -> None:
        """Give agents a new prompt: a new revision each."""
        change: Mapping[str, Any] = {"spec": {"agent": {"systemPrompt": prompt}}}
        await self._each(
            list(wanted),
            lambda name: self._api.request(
                "PATCH",
                f"{_GROUP}/namespaces/{name[0]}/agentdeployments/{name[1]}",
                dict(change),
                MERGE_PATCH,
            ),
        )

    async def make_gateway(self) -> None:
        """The class and the Gateway that all agents attach to."""
        for path, item in gateway("fleet", "fleet"):
            await self._post(path, item)

    async def _post(self, path: str, item: Json) -> Json:
        try:
            return await self._api.request("POST", path, item)
        except ApiError as error:
            if error.status != 409:
                raise
            return {}

    async def _each(self, wanted: list[Name], work: Callable[[Name], Any]) -> None:
        waiting = iter(wanted)

        async def worker() -> None:
            for name in waiting:
                await work(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(_WRITERS):
                group.create_task(worker())
