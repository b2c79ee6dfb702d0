"""Names, labels and owner references of everything an agent owns."""

from __future__ import annotations

from typing import Any

from phasegate.api.base import API_VERSION, GROUP, Meta
from phasegate.rollout.route import Mode

AGENT = f"{GROUP}/agent"
REVISION = f"{GROUP}/revision"
MODE = f"{GROUP}/mode"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "phasegate"
FINALIZER = f"{GROUP}/traffic"
"""Present only while an attempt may have traffic, so that nothing is stuck on it when the operator is gone."""


def workload_name(agent: str, revision: str, mode: Mode) -> str:
    """Name of the Deployment and Service of one revision in one mode."""
    return f"{agent}-{revision}" if mode == "live" else f"{agent}-{revision}-{mode}"


def agent_selector(agent: str) -> str:
    """Label selector of everything that belongs to `agent`."""
    return f"{AGENT}={agent},{MANAGED_BY}={MANAGER}"


def common_labels(agent: str, revision: str | None = None) -> dict[str, str]:
    """Labels of every child, and of those that belong to one revision."""
    labels = {MANAGED_BY: MANAGER, AGENT: agent}
    return labels if revision is None else {**labels, REVISION: revision}


def selector_labels(agent: str, revision: str, mode: Mode) -> dict[str, str]:
    """What pods of one revision and mode are found by; a Deployment's selector never changes."""
    return {AGENT: agent, REVISION: revision, MODE: mode}


def owner_reference(meta: Meta) -> dict[str, Any]:
    """Children go with their agent. Blocking its deletion would need a permission and buy nothing."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentDeployment",
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
