"""An agent with quick phases and users, and what is written about it while a story is told."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lab import Lab
from tests.lab.history import History, Json

NAME = "support"
GROUP = "/apis/phasegate.dev/v1alpha1"
ROUTES = "/apis/gateway.networking.k8s.io/v1"

FIRST = "You are the support agent. Answer briefly."
GOOD = "You are the support agent. Answer briefly and kindly."
BAD = "You are the support agent. degrade: ERROR_RATE=0.9 degrade: LIVE_ONLY=1"
"""Rehearses well and fails its users at once."""
STEPS = ("dark", "canary-20", "canary-50", "full")

POLICY: Json = {
    "apiVersion": "phasegate.dev/v1alpha1",
    "kind": "RollbackPolicy",
    "metadata": {"name": NAME},
    # Wide limits: they take few calls to prove, and nothing here is about statistics.
    "spec": {
        "metrics": [
            {"name": "error-rate", "gate": {"below": "30%"}, "rollback": {"above": "30%"}},
        ]
    },
}


def phases(canary: str = "1s") -> list[Json]:
    """Quick phases; `canary`: how long those take at least in which users meet the candidate."""
    common = {"minDuration": "1s", "minSamples": 5}
    return [
        {"name": "dark", "type": "Dark", **common},
        {"name": "canary-20", "type": "Canary", "weight": 20, **common, "minDuration": canary},
        {"name": "canary-50", "type": "Canary", "weight": 50, **common, "minDuration": canary},
        {"name": "full", "type": "Full", **common},
    ]


class Story:
    """One agent in a namespace of its own, with users."""

    def __init__(self, lab: Lab, namespace: str, history: History) -> None:
        self.lab = lab
        self.namespace = namespace
        self.history = history
        self.host = f"{namespace}.example.com"

    @classmethod
    @contextmanager
    def begin(cls, lab: Lab, canary: str = "1s") -> Iterator[Story]:
        """Apply the agent's first revision, send users to it, and wait until it serves them."""
        namespace = f"t-{uuid.uuid4().hex[:8]}"
        inside = f"namespaces/{namespace}"
        kinds = [f"{GROUP}/{inside}/{kind}" for kind in ("agentdeployments", "agentrollouts")]
        lab.kubectl("create", "namespace", namespace)
        with History.of(lab, *kinds, f"{ROUTES}/{inside}/httproutes") as history:
            story = cls(lab, namespace, history)
            with story._users():
                story._apply(POLICY, story._agent(phases(canary)))
                history.until("the first revision serves", lambda: story.settled("Stable"))
                yield story
        lab.kubectl("delete", "namespace", namespace, "--wait=false")

    @property
    def agent(self) -> Json:
        """The newest version of the AgentDeployment."""
        return self.history.latest("AgentDeployment", NAME)

    @property
    def status(self) -> Json:
        """Its status."""
        status: Json = self.agent.get("status", {})
        return status

    @property
    def route(self) -> Json:
        """The newest version of the HTTPRoute."""
        return self.history.latest("HTTPRoute", NAME)

    def settled(self, phase: str) -> bool:
        """Whether the newest spec has led to this phase."""
        agent = self.agent
        status = agent.get("status", {})
        seen = status.get("observedGeneration") == agent.get("metadata", {}).get("generation", 0)
        return bool(seen and status.get("phase") == phase)

    def change(self, prompt: str) -> None:
        """The user changes the prompt, and nothing else."""
        patch = json.dumps({"spec": {"agent": {"systemPrompt": prompt}}})
        self.kubectl("patch", "agentdep", NAME, "--type=merge", "-p", patch)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """kubectl in the story's namespace; what it printed."""
        return self.lab.kubectl("-n", self.namespace, *arguments, input=input)

    def objects(self, kinds: str) -> list[Json]:
        """All objects of some kinds, as they are now."""
        items: list[Json] = json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]
        return items

    def _agent(self, strategy: Sequence[Json]) -> Json:
        probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
        container: dict[str, Any] = {
            "name": "agent",
            "image": "phasegate.dev/sample-agent:1",
            "env": [{"name": "AGENT_DRAIN_S", "value": "0"}],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": probe,
        }
        gateway = {
            "parentRefs": [{"name": "lab", "namespace": "gateway"}],
            "hostnames": [self.host],
        }
        return {
            "apiVersion": "phasegate.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": NAME},
            "spec": {
                "agent": {"systemPrompt": FIRST, "sideEffects": "DryRun"},
                "template": {"spec": {"containers": [container]}},
                "replicas": 1,
                "service": {"port": 8080},
                "traffic": {"gatewayAPI": gateway},
                "strategy": {"phases": list(strategy)},
                "policyRef": {"name": NAME},
            },
        }

    def _apply(self, *manifests: Json) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", input=json.dumps(items))

    @contextmanager
    def _users(self) -> Iterator[None]:
        wanted = ("--rps=40", "--until-stopped", "--quiet", f"--host={self.host}")
        command = self.lab.command([sys.executable, "-m", "lab.traffic", *wanted])
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as users:
            try:
                yield
            finally:
                users.terminate()
