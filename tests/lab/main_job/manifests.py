"""The objects that users write: an agent with short phases, a policy that decides soon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

NAME = "support"
GOOD_PROMPT = "You are the support agent. Answer briefly."
BETTER_PROMPT = "You are the support agent. Answer briefly and kindly."
# Healthy until users are sent to it.
BAD_PROMPT = "Answer at length. degrade: ERROR_RATE=0.6 degrade: LIVE_ONLY=true"

DARK: Json = {"name": "dark", "type": "Dark", "minDuration": "3s", "minSamples": 20}
SHADOW: Json = {"name": "shadow", "type": "Shadow", "minDuration": "3s", "minSamples": 20}
CANARY: Json = {
    **{"name": "canary-40", "type": "Canary", "weight": 40},
    **{"minDuration": "3s", "minSamples": 20},
}
FULL: Json = {"name": "full", "type": "Full", "minDuration": "3s", "minSamples": 20}
PHASES = (DARK, SHADOW, CANARY, FULL)


def longer(phase: Json, **changes: Any) -> Json:
    """A phase that does not end while a test looks at it."""
    return {**phase, "minDuration": "10m", **changes}


def hostname(namespace: str) -> str:
    """The host name of the namespace's agent."""
    return f"{namespace}.example.com"


def container(env: Mapping[str, str] | None = None, **changes: Any) -> Json:
    """The sample agent; without faults of its own, and it does not linger when told to end."""
    variables = {"FAULT_ERROR_RATE": "0", "AGENT_DRAIN_S": "1", **(env or {})}
    return {
        "name": "agent",
        "image": "phasegate.dev/sample-agent:1",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        **changes,
    }


def template(*containers: Json, **spec: Any) -> Json:
    return {"spec": {"containers": list(containers) or [container()], **spec}}


def agent(namespace: str, *phases: Json, prompt: str = GOOD_PROMPT, **spec: Any) -> Json:
    """An AgentDeployment behind the lab's gateway; of one pod, judged by `policy()`."""
    parents = [{"name": "lab", "namespace": "gateway"}]
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "agent": {"systemPrompt": prompt, "sideEffects": "DryRun"},
            "template": template(),
            "service": {"port": 8080},
            "traffic": {"gatewayAPI": {"parentRefs": parents, "hostnames": [hostname(namespace)]}},
            "strategy": {"phases": list(phases or PHASES)},
            "policyRef": {"name": "policy"},
            **spec,
        },
    }


def policy(**spec: Any) -> Json:
    """Far from what a good agent does, so that some seconds of calls decide."""
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RollbackPolicy",
        "metadata": {"name": "policy"},
        "spec": {
            "metrics": [
                {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "20%"}}
            ],
            **spec,
        },
    }
