"""What users see of the operator on the real control plane, gateway and Prometheus."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lab import Lab
from tests.lab.control.conftest import Agent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

BAD_SOON = "Be rude. degrade: FAULT_ERROR_RATE=1 degrade: FAULT_AFTER_S=5"
OWNED = "agentdep,agr,deploy,svc,configmap,controllerrevision,httproute"


def test_a_first_revision_serves_and_then_nothing_is_written(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    time.sleep(3)  # noqa: TID251 - the gateway reports on the route in its own time
    before = _versions(agent)
    assert len(before) >= 6
    time.sleep(20)  # noqa: TID251 - that nothing happens takes time to see
    assert _versions(agent) == before


@pytest.mark.usefixtures("traffic")
def test_a_prompt_that_fails_its_users_is_taken_back_with_the_numbers(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    stable = agent.status["stableRevision"]
    agent.apply(agent={"systemPrompt": BAD_SOON, "sideEffects": "DryRun"})
    agent.wait("phase", "RolledBack", 90)
    rollback = agent.status["rollback"]
    assert rollback["trigger"].startswith("error-rate")
    assert "candidate" in rollback["message"]
    assert agent.shares().keys() <= {f"support-{stable}", f"support-{rollback['revision']}"}
    assert agent.shares().get(f"support-{rollback['revision']}", 0) <= 1
    agent.wait("rollback.to", stable)
    assert agent.get("agr/support-1")["status"]["phase"] == "RolledBack"


@pytest.mark.usefixtures("traffic")
def test_an_operator_killed_in_mid_rollout_goes_on_where_it_was(agent: Agent, lab: Lab) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply(agent={"systemPrompt": BAD_SOON, "sideEffects": "DryRun"})
    agent.wait("weight", "50", 60)
    lab.kill_operator()
    lab.start_operator()
    agent.wait("phase", "RolledBack", 120)
    assert agent.status["rollouts"] == 1
    gates = agent.get("agr/support-1")["status"]["gates"]
    assert [gate["decision"] for gate in gates] == ["Started", "RolledBack"]


def test_going_back_to_the_stable_revision_ends_the_rollout(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    stable = agent.status["stableRevision"]
    agent.apply(agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"})
    agent.wait("weight", "50")
    agent.apply()
    agent.wait("phase", "Stable")
    agent.wait("stableRevision", stable)
    assert agent.shares()[f"support-{stable}"] >= 1_000_000


def test_the_content_of_a_config_map_belongs_to_the_revision(agent: Agent) -> None:
    limits = {"valueFrom": {"configMapKeyRef": {"name": "settings", "key": "limit"}}}
    container = {"env": [{"name": "LIMIT", **limits}]}
    agent.apply(container)
    assert "ConfigMap 'settings' does not exist" in agent.wait_condition("Stalled")
    agent.put("ConfigMap", "settings", data={"limit": "10"})
    agent.wait_condition("Ready")
    stable = agent.status["stableRevision"]
    agent.put("ConfigMap", "settings", data={"limit": "99"})
    agent.wait("weight", "50")
    candidate = agent.status["candidateRevision"]
    read = {revision: _limit_read_by(agent, revision) for revision in (stable, candidate)}
    assert read == {stable: "10", candidate: "99"}


def test_a_refused_template_is_told_in_the_api_servers_words(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply({"volumeMounts": [{"name": "kb", "mountPath": "/kb"}]})
    message = agent.wait_condition("Stalled")
    assert 'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "kb"' in message
    agent.apply({"imagePullPolice": "Always"})
    agent.wait("observedGeneration", "3")
    assert "imagePullPolice" in agent.wait_condition("Stalled")


def test_an_image_that_cannot_be_pulled_is_told(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply({"image": "example.com/nowhere:1"})
    message = agent.wait_condition("Stalled")
    assert "0 of 1 pods" in message
    assert "ErrImagePull" in message or "ImagePullBackOff" in message


def test_a_quota_that_leaves_no_room_is_told(agent: Agent) -> None:
    agent.put("ResourceQuota", "small", spec={"hard": {"pods": "1"}})
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply(agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"})
    assert "exceeded quota: small" in agent.wait_condition("Stalled")


def test_a_service_of_somebody_else_is_left_alone(agent: Agent) -> None:
    foreign: dict[str, Any] = {"selector": {"app": "legacy"}, "ports": [{"port": 80}]}
    agent.put("Service", "support", spec=foreign)
    agent.apply()
    assert "a Service support that is not Phasegate's exists" in agent.wait_condition("Stalled")
    assert agent.get("svc/support")["spec"]["selector"] == {"app": "legacy"}
    agent.kubectl("delete", "svc", "support")
    agent.kubectl("annotate", "agentdep", "support", "try=again")
    agent.wait_condition("Ready")


def test_a_persons_rollback_is_carried_out_and_signed(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply(agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"})
    agent.wait("weight", "50")
    actor = agent.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    spec = {"agent": "support", "verb": "Rollback", "reason": "it is rude", "actor": actor}
    revision = agent.status["candidateRevision"]
    agent.put("RolloutAction", "stop", spec=spec | {"revision": revision})
    agent.wait("phase", "RolledBack")
    assert agent.status["rollback"]["by"] == actor
    agent.kubectl("wait", "ra/stop", "--for=jsonpath={.status.outcome}=Accepted", "--timeout=10s")


def test_deletion_in_mid_rollout_leaves_nothing_behind(agent: Agent) -> None:
    agent.apply()
    agent.wait_condition("Ready")
    agent.apply(agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"})
    agent.wait("weight", "50")
    agent.kubectl("delete", "agentdep", "support", "--timeout=40s")
    selector = "phasegate.dev/agent=support"
    kinds = "deploy,svc,configmap,controllerrevision,httproute,agr"
    agent.kubectl("wait", kinds, "-l", selector, "--for=delete", "--timeout=40s")


def _versions(agent: Agent) -> dict[str, str]:
    items = agent.get(OWNED)["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in items
    }


def _limit_read_by(agent: Agent, revision: str) -> str:
    """What the pods of a revision read for LIMIT, followed through their own references."""
    pods = agent.kubectl("get", "pods", "-l", f"phasegate.dev/revision={revision}", "-o", "json")
    env = json.loads(pods)["items"][0]["spec"]["containers"][0]["env"]
    ref = next(e for e in env if e["name"] == "LIMIT")["valueFrom"]["configMapKeyRef"]
    return str(agent.get(f"configmap/{ref['name']}")["data"][ref["key"]])
