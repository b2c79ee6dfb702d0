"""Can the Service answer that is to stand in for a deactivated agent?

A route to a Service that is not there, or not on that port, makes 500s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.deactivation import FallbackService
from phasegate.api.errors import ClusterError
from phasegate.control import kinds
from phasegate.control.ports import Cluster, Key, Manifest
from phasegate.control.reads import Reads, find
from phasegate.rollout.labels import AGENT
from phasegate.rollout.observed import ActionSeen, Revision

COURTESY: Final = 0.25
"""Seconds that looking at it may take where it stands before the route write."""


class Fallbacks:
    """Looks at the Services that `spec.fallback` names, and remembers what was wrong last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._last: dict[Key, tuple[FallbackService, str | None]] = {}

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._last.pop(key, None)

    async def look(self, key: Key, spec: AgentDeploymentSpec | None, reads: Reads) -> str | None:
        """Why it cannot answer, in a sentence for whoever wrote the spec; what was known if nobody tells."""
        last = self._known(key, spec)
        return await reads.courtesy("the fallback Service", lambda: self._problem(key, spec), last)

    async def glance(self, key: Key, spec: AgentDeploymentSpec | None) -> str | None:
        """The same while traffic is to be taken off: no longer than `COURTESY`."""
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(COURTESY):
                return await self._problem(key, spec)
        return self._known(key, spec)

    def _known(self, key: Key, spec: AgentDeploymentSpec | None) -> str | None:
        wanted = spec.fallback.service if spec is not None and spec.fallback is not None else None
        known = self._last.get(key)
        return known[1] if known is not None and known[0] == wanted else None

    async def _problem(self, key: Key, spec: AgentDeploymentSpec | None) -> str | None:
        if spec is None or spec.fallback is None:
            return None
        wanted = spec.fallback.service
        found = await find(self._cluster, kinds.SERVICE, key, wanted.name)
        problem = _trouble(found, wanted)
        self._last[key] = wanted, problem
        return problem


def fallback_matters(
    status: AgentDeploymentStatus, target: Revision | None, pending: Iterable[ActionSeen]
) -> bool:
    """True while the agent is deactivated or about to be, and before an attempt starts.

    Who would need it only then is not surprised by it, and an idle agent costs no read.
    """
    if status.deactivated is not None or any(a.spec.verb == "KillSwitch" for a in pending):
        return True
    new = target is not None and target.hash != status.stable_revision
    return new and status.progress is None


def _trouble(service: Manifest | None, wanted: FallbackService) -> str | None:
    named = f"spec.fallback.service: Service {wanted.name}"
    if service is None:
        return f"{named} does not exist in this namespace; create it, or remove fallback"
    spec: dict[str, Any] = service.get("spec") or {}
    labels = service["metadata"].get("labels") or {}
    if AGENT in labels or AGENT in (spec.get("selector") or {}):
        return f"{named} is an agent's; name one that does not depend on what may be switched off"
    if spec.get("type") == "ExternalName":
        return f"{named} is of type ExternalName, which gateways do not send requests to"
    ports = sorted(int(port["port"]) for port in spec.get("ports") or ())
    if wanted.port not in ports:
        return f"{named} has no port {wanted.port}; it has {', '.join(map(str, ports)) or 'none'}"
    return None
