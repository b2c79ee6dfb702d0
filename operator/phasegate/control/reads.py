"""The reads of one pass, and what each of them means when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.errors import ClusterError, NotFound
from phasegate.control import kinds
from phasegate.control.parse import lacks_pods, owned_by
from phasegate.control.ports import ByAgent, Cluster, Key, Kind, Manifest
from phasegate.control.records import Written
from phasegate.rollout import revision
from phasegate.rollout.labels import AGENT, agent_selector

T = TypeVar("T")
U = TypeVar("U")

_log = logging.getLogger(__name__)


class Reads:
    """What one pass could not read.

    To take traffic back, the agent, its Deployments and its route are needed; no other read may
    stand before that. Where nothing can have to be taken back (not `at_stake`), more is needed.
    """

    def __init__(self, *, at_stake: bool) -> None:
        self._at_stake = at_stake
        self.problem: str | None = None
        """What could not be read, and why, in a sentence."""
        self.partial = False
        """Too little is known for anything but taking traffic back."""

    async def courtesy(self, what: str, read: Callable[[], Awaitable[T]], otherwise: U) -> T | U:
        """`otherwise` if `what` cannot be read: only what rests on it waits."""
        try:
            return await read()
        except ClusterError as error:
            self.failed(what, error)
            return otherwise

    async def part(self, what: str, read: Callable[[], Awaitable[T]], otherwise: U) -> T | U:
        """The same while traffic may have to be taken back; else raises ClusterError."""
        try:
            return await read()
        except ClusterError as error:
            if not self._at_stake:
                raise
            self.partial = True
            self.failed(what, error)
            return otherwise

    def failed(self, what: str, error: ClusterError) -> None:
        """`what` could not be read."""
        self.problem = self.problem or f"{what} cannot be read now: {error}"


@dataclass(frozen=True, slots=True)
class LiveChildren:
    """Everything the agent owns besides its route and records, as it is at the API server."""

    deployments: Sequence[Manifest]
    services: Sequence[Manifest]
    config_maps: Sequence[Manifest]
    revisions: Sequence[Manifest]
    services_known: bool = True
    """False: they could not be read."""

    def served(self) -> frozenset[str]:
        """Names of the Deployments that have a Service, all of them while Services are not known."""
        known = self.services if self.services_known else self.deployments
        return frozenset(item["metadata"]["name"] for item in known)


async def children_of(cluster: Cluster, key: Key, uid: str, reads: Reads) -> LiveChildren:
    """What is this agent's; children of one of the same name before it are not."""

    async def labelled(kind: Kind) -> Sequence[Manifest]:
        found = await cluster.list(kind, key.namespace, agent_selector(key.name))
        return [item for item in found if owned_by(item, uid)]

    async def lesser(kind: Kind) -> Sequence[Manifest] | None:
        return await reads.part(f"the agent's {kind.plural}", lambda: labelled(kind), None)

    deployments, services, config_maps, revisions = await asyncio.gather(
        labelled(kinds.DEPLOYMENT),
        lesser(kinds.SERVICE),
        lesser(kinds.CONFIG_MAP),
        lesser(kinds.CONTROLLER_REVISION),
    )
    return LiveChildren(
        deployments, services or (), config_maps or (), revisions or (), services is not None
    )


async def rollout_of(cluster: Cluster, key: Key, uid: str, name: str | None) -> Written | None:
    """The record of an attempt of this very agent, not of one that had its name before."""
    if name is None:
        return None
    manifest = await find(cluster, kinds.AGENT_ROLLOUT, key, name)
    if manifest is None or not owned_by(manifest, uid):
        return None
    return Written.of(manifest)


async def config_maps_of(
    cluster: Cluster, key: Key, spec: AgentDeploymentSpec | None
) -> Mapping[str, Mapping[str, Any]]:
    """The ConfigMaps that a spec refers to, by name; those that do not exist are left out."""
    names = [use.name for use in revision.config_map_uses(spec)] if spec is not None else []
    found = await asyncio.gather(*(find(cluster, kinds.CONFIG_MAP, key, name) for name in names))
    return {n: m for n, m in zip(names, found, strict=True) if m is not None}


async def actions_about(cluster: Cluster, key: Key) -> Sequence[Manifest]:
    """What people decided about the agent; of its whole namespace where nobody knows it better."""
    if isinstance(cluster, ByAgent):
        return await cluster.about(kinds.ROLLOUT_ACTION, key)
    return await cluster.list(kinds.ROLLOUT_ACTION, key.namespace)


async def pods_of(cluster: Cluster, key: Key, children: LiveChildren) -> Sequence[Manifest]:
    """Pods, only where they explain why a workload is not ready; what is not known explains nothing."""
    if not any(lacks_pods(deployment) for deployment in children.deployments):
        return ()
    try:
        return await cluster.list(kinds.POD, key.namespace, agent_selector(key.name))
    except ClusterError as error:
        about = {"namespace": key.namespace, "agent": key.name, "error": str(error)}
        _log.info("pods cannot be listed", extra=about)
        return ()


async def taken(cluster: Cluster, key: Key) -> str | None:
    """Why the Service of the agent's own name cannot be made: somebody else's has that name."""
    service = await find(cluster, kinds.SERVICE, key, key.name)
    if service is None or (service["metadata"].get("labels") or {}).get(AGENT) == key.name:
        return None  # of an agent of this name before this one: it is about to go
    return (
        f"metadata.name: a Service {key.name} that is not Phasegate's exists in this namespace; "
        "delete or rename it, or give the agent another name"
    )


async def find(cluster: Cluster, kind: Kind, key: Key, name: str) -> Manifest | None:
    """An object of the agent's namespace, None if it does not exist."""
    try:
        return await cluster.get(kind, key.namespace, name)
    except NotFound:
        return None
