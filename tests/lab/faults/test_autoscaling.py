"""A real HorizontalPodAutoscaler on the agent: it is obeyed, and it endangers nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.lab.faults.rollout import Canary, canary
from tests.lab.main_job.cluster import Api, until
from tests.lab.main_job.manifests import NAME

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HPA = "horizontalpodautoscalers"


@pytest.fixture(scope="module")
def agent(
    quiet_lab: Lab, quiet_admin: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Canary]:
    """Two pods, a candidate with 40 % of the users, and an autoscaler that has not said anything."""
    with canary(quiet_lab, quiet_admin, tmp_path_factory.mktemp("scaling")) as agent:
        agent.story.change(replicas=2)
        agent.story.ready()
        agent.begin()
        yield agent


def bounds(agent: Canary, least: int, most: int) -> None:
    """The autoscaler brings the number between these; no metric is needed for that."""
    api = agent.scene.api
    target = {"apiVersion": "phasegate.dev/v1alpha1", "kind": "AgentDeployment", "name": NAME}
    spec = {"minReplicas": least, "maxReplicas": most, "scaleTargetRef": target}
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    body = {"spec": {**spec, "metrics": [{"type": "Resource", "resource": metric}]}}
    if api.find(HPA, NAME) is None:
        api.create(HPA, {"metadata": {"name": NAME}, **body})
    else:
        api.patch(HPA, NAME, body)


def wanted(agent: Canary) -> tuple[int, int, int]:
    """What the autoscaler wrote, and the pods that stable and candidate are to have."""
    api = agent.scene.api
    deployments = {d["metadata"]["name"]: d["spec"]["replicas"] for d in api.list("deployments")}
    number = api.get("agentdeployments", NAME)["spec"]["replicas"]
    stable, candidate = (f"{NAME}-{hash_}" for hash_ in (agent.stable, agent.candidate))
    return number, deployments.get(stable, 0), deployments.get(candidate, 0)


def becomes(agent: Canary, number: int, stable: int, candidate: int) -> None:
    """Wait until the operator has seen the autoscaler's number, and done this."""

    def seen() -> bool:
        found = agent.scene.api.get("agentdeployments", NAME)
        current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return current and wanted(agent) == (number, stable, candidate)

    try:
        until(f"{number}: {stable} and {candidate} pods", seen)
    except AssertionError as error:
        raise AssertionError(f"{error}; now {wanted(agent)}") from None


def test_an_autoscaler_shrinks_nobody_that_users_may_come_back_to(agent: Canary) -> None:
    assert wanted(agent) == (2, 2, 1)
    bounds(agent, 1, 1)
    becomes(agent, 1, 2, 1)
    bounds(agent, 3, 3)
    becomes(agent, 3, 3, 2)
    bounds(agent, 1, 1)
    becomes(agent, 1, 2, 1)


def test_no_number_of_an_autoscaler_undoes_a_rollback(agent: Canary) -> None:
    agent.spoil()
    agent.until_safe()
    (before,) = agent.scene.api.list("httproutes")
    bounds(agent, 2, 2)
    until("the number is there", lambda: wanted(agent)[:2] == (2, 2))
    (after,) = agent.scene.api.list("httproutes")
    assert after["spec"] == before["spec"]
    assert not agent.exposed()
    version = agent.scene.api.get("agentdeployments", NAME)
    assert version["status"]["phase"] == "RolledBack"
    assert agent.candidate in version["status"]["rejectedRevisions"]


def test_the_number_is_the_autoscalers_and_its_pods_are_those_of_users(agent: Canary) -> None:
    stored = agent.scene.api.get("agentdeployments", NAME)
    owners = {
        entry["manager"]
        for entry in stored["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    assert owners == {"kube-controller-manager"}
    assert stored["status"]["selector"] == f"phasegate.dev/agent={NAME},phasegate.dev/mode=live"
