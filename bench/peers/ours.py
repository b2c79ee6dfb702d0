"""Phasegate, as it is installed: its own rights, its election, its default settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.peers.stage import GATEWAY
from bench.peers.tools import HOLD_S, HTTP_ROUTES, WEIGHT, Change, Json, Kind, Setting, Sites, pods

_API = "phasegate.dev/v1alpha1"
_AGENTS = Kind(f"/apis/{_API}/namespaces/{{namespace}}/agentdeployments")
_INSTALLED = Setting("as installed")
_SEVEN: tuple[Json, ...] = (
    {"name": "error-rate", "gate": {"below": "5%"}, "rollback": {"above": "5%"}},
    {"name": "escalation-rate", "rollback": {"above": "50%"}},
    {"name": "latency-p95", "rollback": {"above": "10s"}},
    {"name": "cost-per-call", "baseline": {}},
    {"name": "tokens-per-call", "baseline": {}},
    {"name": "accuracy", "rollback": {"below": "50%"}},
    {"name": "safety-flags", "rollback": {"above": "0"}},
)


@dataclass(frozen=True)
class Phasegate:
    """`bench.peers.tools.Tool`."""

    name: str = "Phasegate"
    namespace: str = "phasegate"
    main: Kind = _AGENTS
    route: Kind = HTTP_ROUTES
    fastest: Setting = _INSTALLED

    @property
    def settings(self) -> Sequence[Setting]:
        """There is one."""
        return (self.fastest,)

    def command(self, sites: Sites, setting: Setting) -> Sequence[str]:
        """Nothing but where things are."""
        config = sites.folder / "phasegate.yaml"
        config.write_text(yaml.safe_dump({"providers": {"default": {"url": sites.prometheus}}}))
        program = Path(sys.executable).with_name("phasegate")
        return (
            *(str(program), "operator", f"--kubeconfig={sites.kubeconfig}", f"--config={config}"),
            *(f"--namespace={self.namespace}", f"--listen=127.0.0.1:{sites.port}"),
        )

    def objects(self, subject: str, setting: Setting, metrics: int, sites: Sites) -> list[Json]:
        """A policy, and the agent."""
        policy = {
            "apiVersion": _API,
            "kind": "RollbackPolicy",
            "metadata": {"name": subject},
            "spec": {"metrics": list(_SEVEN[:metrics])},
        }
        phases = [
            {"name": "canary", "type": "Canary", "weight": WEIGHT, "minDuration": f"{HOLD_S}s"},
            {"name": "full", "type": "Full", "minDuration": "1h"},
        ]
        agent = {
            "apiVersion": _API,
            "kind": "AgentDeployment",
            "metadata": {"name": subject},
            "spec": {
                "agent": {"systemPrompt": "You are the support agent."},
                "template": {"spec": pods({})["spec"]},
                "replicas": 2,
                "service": {"port": 8080},
                "traffic": {
                    "gatewayAPI": {
                        "parentRefs": [GATEWAY],
                        "hostnames": [f"{subject}.example.com"],
                    }
                },
                "strategy": {"phases": phases},
                "policyRef": {"name": subject},
            },
        }
        return [policy, agent]

    def next_revision(self, subject: str) -> Change:
        """Another prompt."""
        agent = {"systemPrompt": "You are the support agent. Answer briefly."}
        path = f"{self.main.of(self.namespace)}/{subject}"
        return Change(path, {"spec": {"agent": agent}})

    def settled(self, item: Json) -> bool:
        """Ready, by its condition."""
        conditions = item.get("status", {}).get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
