"""The operator at work in the lab, as users meet it: through kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab.sandbox.forward import TARGETS

PHASES = [
    {"name": "canary", "type": "Canary", "weight": 50, "minDuration": "10m"},
    {"name": "full", "type": "Full"},
]


class Agent:
    """One AgentDeployment in a namespace of its own."""

    name = "support"

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab = lab
        self.namespace = namespace
        self.host = f"{namespace}.example.com"

    def apply(self, container: dict[str, Any] | None = None, **spec: Any) -> None:
        """What a user applies; `container` adds to the agent's container."""
        probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
        body = {
            "name": "agent",
            "image": "phasegate.dev/sample-agent:1",
            "env": [{"name": "AGENT_DRAIN_S", "value": "0"}],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": probe,
        }
        parent = {"name": "lab", "namespace": "gateway"}
        default = {
            "agent": {"systemPrompt": "Be kind.", "sideEffects": "DryRun"},
            "template": {"spec": {"containers": [body | (container or {})]}},
            "replicas": 1,
            "service": {"port": 8080},
            "traffic": {"gatewayAPI": {"parentRefs": [parent], "hostnames": [self.host]}},
            "strategy": {"phases": PHASES},
        }
        self.put("AgentDeployment", self.name, spec=default | spec)

    def put(self, kind: str, name: str, user: str = "admin", **body: Any) -> None:
        """Create or change an object of this namespace."""
        group = "v1" if kind in ("ConfigMap", "Service", "ResourceQuota") else None
        manifest = {
            "apiVersion": group or "phasegate.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            **body,
        }
        self.lab.kubectl("apply", "-f", "-", user=user, input=json.dumps(manifest))

    def wait(self, path: str, value: str, seconds: int = 40) -> None:
        """Wait until the status field at `path` is `value`."""
        self.kubectl(
            "wait",
            f"agentdep/{self.name}",
            f"--for=jsonpath={{.status.{path}}}={value}",
            f"--timeout={seconds}s",
        )

    def wait_condition(self, name: str, seconds: int = 40) -> str:
        """Wait until a condition is True; its message."""
        self.kubectl(
            "wait", f"agentdep/{self.name}", f"--for=condition={name}", f"--timeout={seconds}s"
        )
        return str(self.condition(name)["message"])

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"agentdep/{self.name}")["status"]
        return found

    def condition(self, name: str) -> dict[str, Any]:
        return next(c for c in self.status["conditions"] if c["type"] == name)

    def get(self, what: str) -> dict[str, Any]:
        """An object, or a list of a kind."""
        found: dict[str, Any] = json.loads(self.kubectl("get", what, "-o", "json"))
        return found

    def kubectl(self, *arguments: str) -> str:
        return self.lab.kubectl("-n", self.namespace, *arguments)

    def shares(self) -> dict[str, int]:
        """Weights of the route's main rule, by Service."""
        rules = self.get(f"httproute/{self.name}")["spec"]["rules"]
        shares: dict[str, int] = {}
        for backend in rules[-1]["backendRefs"]:
            shares[backend["name"]] = shares.get(backend["name"], 0) + backend["weight"]
        return shares


@pytest.fixture(scope="session")
def operator(lab: Lab) -> Lab:
    """The lab with a running operator."""
    lab.start_operator()
    return lab


@pytest.fixture
def agent(operator: Lab, namespace: str) -> Agent:
    """An agent that is not applied yet."""
    return Agent(operator, namespace)


@pytest.fixture
def traffic(agent: Agent) -> Iterator[None]:
    """Users of the agent, as long as the test runs."""
    url = f"http://{TARGETS['gateway']}"
    wanted = ("--rps", "40", "--until-stopped", "--quiet", "--url", url, "--host", agent.host)
    argv = [sys.executable, "-m", "lab.traffic", *wanted]
    users = subprocess.Popen(
        agent.lab.command(argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield
    users.terminate()
    users.wait()
