"""Who answers for an agent."""

from __future__ import annotations

from phasegate.api.agentdeployment import AgentDeploymentSpec


def is_owner(spec: AgentDeploymentSpec, person: str) -> bool:
    """True when `person` is the rollback owner or the backup; True for anybody where none is named."""
    owner = spec.owner
    return owner is None or person in (owner.rollback_owner, owner.backup)
