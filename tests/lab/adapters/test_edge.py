"""Watching a real API server with the operator's rights: keys come, nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.edge import Edge, References
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.control import kinds
from phasegate.control.ports import Key

from tests.lab.adapters.objects import agent, deployment, service

pytestmark = pytest.mark.lab


class Keys:
    """Keys as they come, of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def add(self, key: Key) -> None:
        if key.namespace == self.namespace:
            self.queue.put_nowait(key.name)

    async def comes(self, name: str) -> None:
        """Wait for this key; the test's own time limit ends the waiting."""
        while await self.queue.get() != name:
            pass


@pytest.fixture
def references(namespace: str) -> References:
    return References()


@pytest.fixture
async def keys(access: Access, references: References, namespace: str) -> AsyncIterator[Keys]:
    keys = Keys(namespace)
    edge = Edge(access, references, keys.add, lambda: None)
    task = asyncio.create_task(edge.run())
    await edge.ready.wait()
    yield keys
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def child(manifest: dict[str, Any], of: str) -> dict[str, Any]:
    manifest["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "phasegate",
        "phasegate.dev/agent": of,
    }
    return manifest


async def test_whatever_happens_to_an_agent_brings_its_key(
    keys: Keys, references: References, admin: KubernetesCluster, namespace: str
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
    keys: Keys, admin: KubernetesCluster, namespace: str
) -> None:
    made = await admin.create(agent(namespace, "seen"))
    await keys.comes("seen")
    # A later object's event comes through the same stream: what kopf does to an object it has
    # done by then.
    await admin.create(agent(namespace, "later"))
    await keys.comes("later")
    seen = await admin.get(kinds.AGENT_DEPLOYMENT, namespace, "seen")
    assert seen["metadata"] == made["metadata"]


async def test_what_was_there_before_is_told_of_at_the_start(
    access: Access, admin: KubernetesCluster, namespace: str
) -> None:
    await admin.create(agent(namespace, "older"))
    keys = Keys(namespace)
    relists: list[None] = []
    edge = Edge(access, References(), keys.add, lambda: relists.append(None), relist_delay=0)
    task = asyncio.create_task(edge.run())
    await keys.comes("older")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not relists


async def test_stopping_does_not_touch_the_callers_other_tasks(
    access: Access, admin: KubernetesCluster, namespace: str
) -> None:
    keys = Keys(namespace)
    edge = Edge(access, References(), keys.add, lambda: None)
    watching = asyncio.create_task(edge.run())
    await admin.create(agent(namespace))
    await keys.comes("support")
    release = asyncio.Event()
    mid_write = asyncio.create_task(release.wait())
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    release.set()
    assert await mid_write
