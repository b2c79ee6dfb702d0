"""What is played for all three alike: pods that are ready at once, and a gateway that says yes."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from bench.played import NAMESPACE, ROUTES, accepted, conditions, now
from lab.node.client import MERGE_PATCH, ApiClient, ApiError

Json = dict[str, Any]
GATEWAY = {"name": "gateway", "namespace": NAMESPACE}
_AT_ONCE = 16


class Stage:
    """Follows pods and HTTPRoutes of the whole cluster and answers for them."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._addresses = (f"10.250.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self._known: set[str] = set()
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Play until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("/api/v1/pods", self._pod))
            group.create_task(self._follow(f"{ROUTES}/httproutes", self._route))

    async def _follow(self, path: str, play: Any) -> None:
        async with asyncio.TaskGroup() as group:
            async for change in self._api.follow(path):
                if change.kind != "DELETED":
                    for item in change.objects:
                        group.create_task(self._gently(play, item))

    async def _gently(self, play: Any, item: Json) -> None:
        async with self._few:
            try:
                await play(item)
            except ApiError as error:
                if error.status not in (404, 409):  # gone, or changed meanwhile: told again
                    raise

    async def _pod(self, pod: Json) -> None:
        """A pod is running and ready as soon as it exists; it has no node, so it goes at once."""
        meta = pod["metadata"]
        if meta["uid"] in self._known or "deletionTimestamp" in meta:
            return
        self._known.add(meta["uid"])
        address = next(self._addresses)
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now(),
            "conditions": list(
                conditions("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ),
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        await self._api.request("PATCH", path, {"status": status}, MERGE_PATCH)

    async def _route(self, route: Json) -> None:
        """Accept what the route says now; nothing is routed anywhere."""
        status = accepted(route)
        if status is None:
            return
        meta = route["metadata"]
        path = f"{ROUTES}/namespaces/{meta['namespace']}/httproutes/{meta['name']}/status"
        await self._api.request("PATCH", path, {"status": status}, MERGE_PATCH)
