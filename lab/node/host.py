"""What every pod of the node shares."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp

from lab.node.client import ApiClient, ApiError, Json
from lab.node.network import PodNetworks
from lab.node.spec import References, decode
from lab.node.status import BackOff, timestamp

LOG = logging.getLogger("lab.node")


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def log_path(state_dir: Path, namespace: str, pod: str, container: str) -> Path:
    """Return the file with a container's output: STATE/logs/NAMESPACE/POD/CONTAINER.log."""
    return state_dir / "logs" / namespace / pod / f"{container}.log"


@dataclass(frozen=True)
class Host:
    """The node's own things: its name, its directory, the API, networks, probes' session."""

    name: str
    directory: Path
    api: ApiClient
    networks: PodNetworks
    probing: aiohttp.ClientSession
    back_off: BackOff
    background: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def pods_directory(self) -> Path:
        """Where pods' volumes and scratch files are, one directory per pod's UID."""
        return self.directory / "pods"

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the side, held until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def event(
        self, pod: Json, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Record a Kubernetes Event about a pod; one that cannot be written is only logged."""
        self.later(self._event(pod, kind, reason, message))

    async def _event(self, pod: Json, kind: str, reason: str, message: str) -> None:
        metadata, moment = pod["metadata"], timestamp(now())
        body: Json = {
            "metadata": {"name": f"{metadata['name'][:230]}.{uuid.uuid4().hex[:12]}"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "count": 1,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": "lab-node", "host": self.name},
        }
        try:
            path = f"/api/v1/namespaces/{metadata['namespace']}/events"
            await self.api.request("POST", path, body)
        except ApiError as error:
            LOG.info("event %s %s not written: %s", metadata["name"], reason, error)

    async def references(self, namespace: str, wanted: set[tuple[str, str]]) -> References:
        """Read ConfigMaps and Secrets by (kind, name). Raises ApiError other than not found."""
        plurals = {"ConfigMap": "configmaps", "Secret": "secrets"}
        found: dict[tuple[str, str], dict[str, bytes] | None] = {}
        for kind, name in sorted(wanted):
            path = f"/api/v1/namespaces/{namespace}/{plurals[kind]}/{name}"
            try:
                found[kind, name] = decode(kind, await self.api.get(path))
            except ApiError as error:
                if error.status != 404:
                    raise
                found[kind, name] = None
        return References(found)
