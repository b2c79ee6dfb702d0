"""AgentRollouts as the API server has them: whose they are, and which numbers are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus
from phasegate.control import kinds
from phasegate.control.parse import owned_by, status_of
from phasegate.control.ports import Cluster, Key, Manifest
from phasegate.rollout.labels import agent_selector
from phasegate.rollout.observed import RecordSeen, Revision


@dataclass(frozen=True, slots=True)
class Written:
    """What a record says, the resourceVersion that says so, and what the record is about."""

    status: AgentRolloutStatus
    version: str | None
    spec: Mapping[str, Any] = field(default_factory=dict)
    """As it is stored: every chain of the record starts from it."""

    @classmethod
    def of(cls, manifest: Manifest) -> Written:
        """From the object."""
        version = manifest["metadata"].get("resourceVersion")
        spec: Mapping[str, Any] = manifest.get("spec") or {}
        return cls(status_of(AgentRolloutStatus, manifest), version, spec)


async def records_of(cluster: Cluster, key: Key, uid: str) -> tuple[RecordSeen, ...]:
    """Every record that bears the agent's name, oldest first; those of an agent before it as well."""
    found = await cluster.list(kinds.AGENT_ROLLOUT, key.namespace, agent_selector(key.name))
    read = (record_seen(manifest, uid) for manifest in found)
    return tuple(sorted((r for r in read if r is not None), key=lambda r: r.spec.number))


def record_seen(manifest: Manifest, uid: str) -> RecordSeen | None:
    """One record; None if it is none that an operator could have written."""
    try:
        spec = AgentRolloutSpec.model_validate(manifest.get("spec") or {})
    except ValidationError:
        return None
    status = status_of(AgentRolloutStatus, manifest)
    return RecordSeen(manifest["metadata"]["name"], spec, status, owned_by(manifest, uid))


def history_matters(status: AgentDeploymentStatus, target: Revision | None) -> bool:
    """Whether what was tried before has to be known: the status was lost, or an attempt may start."""
    if status.stable_revision is None:
        return True
    new = target is not None and target.hash != status.stable_revision
    return status.progress is None and new
