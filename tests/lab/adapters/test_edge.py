"""Watching a real API server with the operator's rights: news come, nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.cached import CachedCluster, Mirrors
from phasegate.adapters.clock import SystemClock
from phasegate.adapters.edge import Edge, References, scopes
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.streams import ApiStreams
from phasegate.adapters.watching import Reflector
from phasegate.api.errors import Conflict, NotFound
from phasegate.control import kinds
from phasegate.control.ports import Key

from tests.lab.adapters.objects import agent, deployment, service

pytestmark = pytest.mark.lab


class Watching:
    """Everything that is watched, and the keys it brings, of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.references = References()
        self.mirrors = Mirrors(scopes())
        self.edge = Edge(self.references, self._add, self._add)
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.reflectors: list[Reflector] = []

    def _add(self, key: Key) -> None:
        if key.namespace == self.namespace:
            self.queue.put_nowait(key.name)

    async def comes(self, name: str) -> None:
        """Wait for this key; the test's own time limit ends the waiting."""
        while await self.queue.get() != name:
            pass

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for what news bring; the test's own time limit ends the waiting."""
        while not met():
            await self.queue.get()


@asynccontextmanager
async def watching(access: Access, namespace: str) -> AsyncIterator[Watching]:
    """Watches of all kinds, everything listed."""
    watched, streams = Watching(namespace), await ApiStreams.connect(access)
    watched.reflectors = [
        Reflector(streams, mirror, watched.edge.happened, SystemClock(), lambda: 0.0)
        for mirror in watched.mirrors.all
    ]
    tasks = [asyncio.ensure_future(reflector.run()) for reflector in watched.reflectors]
    try:
        for reflector in watched.reflectors:
            await reflector.synced.wait()
        yield watched
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await streams.close()


@pytest.fixture
async def keys(access: Access, namespace: str) -> AsyncIterator[Watching]:
    async with watching(access, namespace) as watched:
        yield watched


@pytest.fixture
def references(keys: Watching) -> References:
    return keys.references


def child(manifest: dict[str, Any], of: str) -> dict[str, Any]:
    manifest["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "phasegate",
        "phasegate.dev/agent": of,
    }
    return manifest


async def test_whatever_happens_to_an_agent_brings_its_key(
    keys: Watching, references: References, admin: KubernetesCluster, namespace: str
) -> None:
    await admin.create(agent(namespace, "own"))
    await keys.comes("own")
    await admin.create(child(deployment(namespace, "d"), "of-deployment"))
    await keys.comes("of-deployment")
    await admin.create(child(service(namespace, "s"), "of-service"))
    await keys.comes("of-service")
    references.set(Key(namespace, "of-config-map"), None, ["prompt"])
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": "prompt"},
    }
    await admin.create(config_map)
    await keys.comes("of-config-map")
    references.set(Key(namespace, "of-policy"), "strict")
    metrics = [{"name": "error-rate", "rollback": {"above": "5%"}}]
    policy = {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RollbackPolicy",
        "metadata": {"namespace": namespace, "name": "strict"},
        "spec": {"metrics": metrics},
    }
    await admin.create(policy)
    await keys.comes("of-policy")
    await admin.delete(kinds.AGENT_DEPLOYMENT, namespace, "own")
    await keys.comes("own")


async def test_watching_leaves_no_trace_on_the_object(
    keys: Watching, admin: KubernetesCluster, namespace: str
) -> None:
    made = await admin.create(agent(namespace, "seen"))
    await keys.comes("seen")
    # A later object's event comes through the same stream: what watching would do to an
    # object is done by then.
    await admin.create(agent(namespace, "later"))
    await keys.comes("later")
    seen = await admin.get(kinds.AGENT_DEPLOYMENT, namespace, "seen")
    assert seen["metadata"] == made["metadata"]


async def test_what_was_there_before_is_told_of_at_the_start(
    access: Access, admin: KubernetesCluster, namespace: str
) -> None:
    await admin.create(agent(namespace, "older"))
    async with watching(access, namespace) as watched:
        await watched.comes("older")
        assert all(reflector.problem is None for reflector in watched.reflectors)


async def test_the_mirror_reads_as_the_api_server_does(
    keys: Watching, cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    cached = CachedCluster(cluster, keys.mirrors)
    await admin.create(agent(namespace, "own"))
    await admin.create(child(service(namespace, "s"), "own"))
    await keys.until(lambda: len(keys.mirrors.of(kinds.SERVICE, namespace)[0].list(namespace)) > 0)
    selector = "phasegate.dev/agent=own,app.kubernetes.io/managed-by=phasegate"
    for found, live in (
        (
            await cached.get(kinds.AGENT_DEPLOYMENT, namespace, "own"),
            await admin.get(kinds.AGENT_DEPLOYMENT, namespace, "own"),
        ),
        (
            (await cached.list(kinds.SERVICE, namespace, selector))[0],
            (await admin.list(kinds.SERVICE, namespace, selector))[0],
        ),
    ):
        expected = dict(live) | {"metadata": dict(live["metadata"])}
        del expected["metadata"]["managedFields"]
        assert found == expected


async def test_only_metadata_of_foreign_config_maps_is_held_and_their_content_read_when_needed(
    keys: Watching, cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    cached = CachedCluster(cluster, keys.mirrors)
    keys.references.set(Key(namespace, "reader"), None, ["prompt"])
    metadata = {"namespace": namespace, "name": "prompt"}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    for text in ("Be kind.", "Be quick."):
        await admin.apply({**made, "data": {"text": text}})
        await keys.comes("reader")
        held = keys.mirrors.of(kinds.CONFIG_MAP, namespace)
        assert [mirror.get(namespace, "prompt") or {} for mirror in held][1].keys() == {
            "apiVersion",
            "kind",
            "metadata",
        }
        found = await cached.get(kinds.CONFIG_MAP, namespace, "prompt")
        assert found["data"] == {"text": text}


async def test_our_writes_are_read_back_and_a_conflict_makes_us_ask(
    keys: Watching, cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    cached = CachedCluster(cluster, keys.mirrors)
    made = await admin.create(agent(namespace, "own"))
    await keys.comes("own")
    version = made["metadata"]["resourceVersion"]
    status = {"phase": "Pending"}
    await cached.patch_status(kinds.AGENT_DEPLOYMENT, namespace, "own", status, version)
    found = await cached.get(kinds.AGENT_DEPLOYMENT, namespace, "own")
    assert found["status"]["phase"] == "Pending"
    with pytest.raises(Conflict):
        await cached.patch_status(kinds.AGENT_DEPLOYMENT, namespace, "own", {}, version)
    await admin.delete(kinds.AGENT_DEPLOYMENT, namespace, "own")
    with pytest.raises(NotFound):
        await cached.get(kinds.AGENT_DEPLOYMENT, namespace, "own")
