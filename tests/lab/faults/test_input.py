"""Odd manifests on the real API server: refused with words, or carried out without a traceback."""

from __future__ import annotations

import copy
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lab import Lab
from tests.control.odd import TEXT, nearly
from tests.lab.faults.scene import Scene, opened
from tests.lab.main_job.cluster import Api, Json, Refusal, until
from tests.lab.main_job.manifests import CANARY, FULL, agent, policy
from tests.lab.main_job.story import says

EXAMPLES = int(os.environ.get("ODD_EXAMPLES", "20"))
pytestmark = [pytest.mark.lab, pytest.mark.timeout(240 + 2 * EXAMPLES)]
PROMPTS = {
    "one-byte": "x",
    "limit": "x" * 120_000,
    "limit-in-bytes": "é" * 60_000,
    "controls": "\x01\t\n\r\x1b[2J\x7f\u2028\u202e",
    "scripts": "مرحبا 안녕 你好 שלום नमस्ते \U0001f9ed e\u0301 \ufdfa \U0010fffd",
    "templates": "$(AGENT_NAME) $$ ${x} {{ y }} %s \\n \"quoted\" 'quoted'",
}


@dataclass
class Applied:
    """What the API server took, and what it said to the rest."""

    scene: Scene
    accepted: list[tuple[str, str]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    number: Iterator[int] = field(default_factory=itertools.count)

    def apply(self, plural: str, manifest: Json) -> None:
        name = f"odd-{next(self.number)}"
        body = {**manifest, "metadata": {"name": name, "namespace": self.scene.namespace}}
        try:
            self.scene.api.create(plural, body)
        except Refusal as refusal:
            self.refused.append(refusal)
        else:
            self.accepted.append((plural, name))


@pytest.fixture(scope="module")
def scene(
    quiet_lab: Lab, quiet_admin: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with opened(quiet_lab, quiet_admin, tmp_path_factory.mktemp("input")) as scene:
        # Whatever number of pods is asked for, the machine has room for these.
        few = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "8"}}}
        scene.api.create("resourcequotas", few)
        yield scene


def without_bugs(scene: Scene) -> None:
    assert "Traceback" not in scene.operator.log
    assert scene.operator.metric("phasegate_reconciles_total", result="bug") == 0


def serves(scene: Scene, name: str) -> bool:
    return says(scene.api.get("agentdeployments", name), "Ready") == "True"


def settled(scene: Scene, name: str) -> Json | None:
    """The object, once a pass was about its newest spec."""
    found = scene.api.get("agentdeployments", name)
    status = found.get("status") or {}
    return found if status.get("observedGeneration") == found["metadata"]["generation"] else None


def test_a_prompt_of_any_size_and_script_reaches_the_pods_as_it_was_written(scene: Scene) -> None:
    for name, prompt in PROMPTS.items():
        manifest = agent(scene.namespace, CANARY, FULL, prompt=prompt)
        manifest["metadata"]["name"] = name
        manifest["spec"]["traffic"]["gatewayAPI"]["hostnames"] = [f"{name}.example.com"]
        del manifest["spec"]["policyRef"]
        scene.api.create("agentdeployments", manifest)
    for name, prompt in PROMPTS.items():
        until(f"{name} serves", partial(serves, scene, name), 90)
        (deployment,) = scene.api.list("deployments", f"phasegate.dev/agent={name}")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (value,) = [e["value"] for e in container["env"] if e["name"] == "AGENT_SYSTEM_PROMPT"]
        assert value == prompt.replace("$", "$$")  # as it must be written to stay what it is
        scene.api.delete("agentdeployments", name)
    without_bugs(scene)


def odd_specs(namespace: str) -> st.SearchStrategy[Any]:
    spec = agent(namespace, CANARY, FULL)["spec"]
    spec["template"]["spec"]["containers"][0]["image"] = "example.com/none:1"
    spec["agent"] |= {"version": "2.4.0", "tools": [{"name": "crm"}]}
    spec["agent"]["model"] = {"provider": "p", "name": "m", "parameters": {"temperature": "0.2"}}
    spec["standby"] = {"keepWarm": "24h", "archive": "30d"}
    return nearly(st.just(spec), most=2)


def test_odd_manifests_bring_out_no_bug_and_block_nobody(scene: Scene) -> None:
    applied = Applied(scene)
    policies = nearly(st.just(policy()["spec"]), most=2)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spec=odd_specs(scene.namespace), rules=policies, reason=TEXT, actor=TEXT)
    def try_them(spec: Any, rules: Any, reason: str, actor: str) -> None:
        applied.apply("agentdeployments", {"spec": spec})
        applied.apply("rollbackpolicies", {"spec": rules})
        action = {"agent": "odd-0", "verb": "Pause", "revision": "a" * 10}
        applied.apply("rolloutactions", {"spec": {**action, "reason": reason, "actor": actor}})

    try_them()
    assert applied.accepted
    assert applied.refused
    for refusal in applied.refused:
        assert refusal.status in (400, 403, 413, 422), refusal
        assert str(refusal)
    agents = [name for plural, name in applied.accepted if plural == "agentdeployments"]
    for name in agents:
        found = until(f"a pass over {name}", partial(settled, scene, name))
        status = found["status"]
        assert len(status["message"]) <= 2048
        assert all(len(c.get("message", "")) <= 2048 for c in status["conditions"])
    good = agent(scene.namespace, CANARY, FULL)
    del good["spec"]["policyRef"]
    for name in agents:
        scene.api.delete("agentdeployments", name)
    scene.api.create("agentdeployments", copy.deepcopy(good))
    until("a good one serves", partial(serves, scene, "support"))
    without_bugs(scene)
    sys.stdout.write(f"{len(applied.accepted)} accepted, {len(applied.refused)} refused\n")
