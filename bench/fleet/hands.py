"""Plays the kubelets and the gateway: every Deployment is ready, every route accepted, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bench.played import ROUTES, accepted
from lab.errors import LabError
from lab.handle import Lab
from lab.node.client import MERGE_PATCH, ApiClient, load_kubeconfig

Json = dict[str, Any]

WORKERS = 16
_DEPLOYMENTS = "/apis/apps/v1/deployments"


def deployment_status(item: Json) -> Json | None:
    """The status of a Deployment whose pods are all ready; None if it says so already."""
    wanted = item["spec"].get("replicas", 1)
    generation = item["metadata"]["generation"]
    status = item.get("status", {})
    if status.get("readyReplicas", 0) == wanted and status.get("observedGeneration") == generation:
        return None
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {"observedGeneration": generation, **dict.fromkeys(counts, wanted)}


class Hands:
    """Follows one kind and writes the status of each object that lacks it."""

    def __init__(self, api: ApiClient, path: str, status: Callable[[Json], Json | None]) -> None:
        self._api = api
        self._path = path
        self._status = status
        self._newest: dict[str, Json] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _follow(self) -> None:
        async for change in self._api.follow(self._path):
            for item in change.objects:
                metadata = item["metadata"]
                path = f"namespaces/{metadata['namespace']}/{self._path.rpartition('/')[2]}"
                key = f"{self._path.rpartition('/')[0]}/{path}/{metadata['name']}"
                if change.kind == "DELETED":
                    self._newest.pop(key, None)
                    continue
                waiting = key in self._newest
                self._newest[key] = item
                if not waiting:
                    self._queue.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            item = self._newest.pop(key, None)
            status = self._status(item) if item is not None else None
            if status is None:
                continue
            try:
                await self._api.request("PATCH", f"{key}/status", {"status": status}, MERGE_PATCH)
            except LabError:
                continue  # gone, or written since: the watch tells


async def main() -> None:
    """Run in the lab around this process until killed."""
    lab = Lab.current()
    endpoint = load_kubeconfig(lab.kubeconfig)
    async with (
        ApiClient(endpoint) as first,
        ApiClient(endpoint) as second,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(Hands(first, _DEPLOYMENTS, deployment_status).run())
        group.create_task(Hands(second, f"{ROUTES}/httproutes", accepted).run())


if __name__ == "__main__":
    asyncio.run(main())
