"""The gateway fails, and others write its routes: what was decided holds, and the status is honest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import Lab
from tests.lab.faults.rollout import ROUTES, Canary, canary
from tests.lab.faults.scene import Scene
from tests.lab.main_job.cluster import PATIENCE, Api, Json, until
from tests.lab.main_job.manifests import BETTER_PROMPT, DARK, FULL, NAME, longer
from tests.lab.main_job.manifests import agent as manifest
from tests.lab.main_job.story import condition_of, says, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

CONTROLLER = "envoy-gateway"
MEMORY = 60.0
"""Seconds for which the operator remembers what a gateway can do."""
FIGHT = 8
"""Seconds for which another tool writes the route."""


@pytest.fixture(scope="module")
def agent(
    quiet_lab: Lab, quiet_admin: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Canary]:
    with canary(quiet_lab, quiet_admin, tmp_path_factory.mktemp("gateway")) as agent:
        yield agent


@contextmanager
def controller_down(lab: Lab) -> Iterator[None]:
    """Envoy goes on with what it knows; nobody tells it anything new, nor reports on routes."""
    lab.part("kill", CONTROLLER)
    try:
        yield
    finally:
        lab.part("start", CONTROLLER)


def weights(agent: Canary) -> dict[str, int]:
    """Weight by Service in the main rule of the live route."""
    refs = agent.scene.api.get("httproutes", NAME)["spec"]["rules"][0]["backendRefs"]
    return {ref["name"]: ref["weight"] for ref in refs}


def rewrite(agent: Canary, percent: int, by: str) -> None:
    """Somebody gives the candidate so much."""
    route = agent.scene.api.get("httproutes", NAME)
    rules: list[Json] = route["spec"]["rules"]
    for ref in rules[0]["backendRefs"]:
        mine = ref["name"].endswith(agent.candidate)
        ref["weight"] = percent if mine else 100 - percent
    agent.scene.api.patch("httproutes", NAME, {"spec": {"rules": rules}}, manager=by)


def share(agent: Canary) -> float:
    """What the live route gives the candidate, in percent."""
    live = weights(agent)
    return 100 * live.get(f"{NAME}-{agent.candidate}", 0) / sum(live.values())


def test_a_step_waits_for_a_gateway_whose_controller_is_down(agent: Canary) -> None:
    with controller_down(agent.scene.lab):
        agent.story.prompt("You are the support agent, in the dark.")
        version = agent.story.until(
            "the route is written and not confirmed",
            lambda v: (
                (v["status"].get("progress") or {}).get("phase", {}).get("name") == "canary-40"
                and condition_of(v, "TrafficProgrammed").get("status") == "False"
                and "Gateway gateway/lab" in v["status"]["message"]
            ),
        )
        assert "startedAt" not in version["status"]["progress"]
        assert version["status"]["traffic"][0]["programmed"] is False
    version = agent.story.in_phase("canary-40")
    assert says(version, "TrafficProgrammed") == "True"


def test_a_rollback_is_not_called_safe_while_the_controller_is_down(agent: Canary) -> None:
    candidate = agent.begin()
    with controller_down(agent.scene.lab):
        agent.spoil()
        until("the route is written", lambda: not agent.exposed())
        version = agent.story.until(
            "it is rolled back",
            lambda v: (v["status"].get("rollback") or {}).get("revision") == candidate,
        )
        assert "safeAt" not in version["status"]["rollback"]
        assert says(version, "TrafficProgrammed") == "False"
        assert not agent.events("TrafficSafe")
    safe = agent.until_safe()
    assert float(safe["secondsToSafe"]) > 0
    since = agent.users.answers[-1].done
    answers = agent.users.go_on_past(since + 1)
    late = [answer for answer in answers if answer.sent > since + 0.5]
    assert {answer.revision for answer in late} == {agent.stable}


def test_what_kubectl_gives_the_candidate_is_taken_back_at_once_and_told(agent: Canary) -> None:
    agent.begin()
    rewrite(agent, 90, by="kubectl-edit")
    until("it is as it was", lambda: share(agent) == 40)
    event = agent.story.event("RouteRestored")
    assert "changed by kubectl-edit" in event["note"]
    version = agent.story.until("it says so", lambda v: says(v, "TrafficProgrammed") == "True")
    assert shares(version)[agent.candidate] == 40


def test_a_tool_that_writes_the_route_every_second_is_told_and_not_fought(agent: Canary) -> None:
    agent.begin()
    began = agent.proxy.seen[-1].at
    for second in range(FIGHT):
        rewrite(agent, 10 + second, by="gitops")
        agent.users.go_on_past(agent.users.answers[-1].done + 1)
    version = agent.story.until(
        "it is told",
        lambda v: condition_of(v, "TrafficProgrammed").get("reason") == "RouteContested",
    )
    assert "gitops changes HTTPRoute" in version["status"]["message"]
    assert agent.story.event("RouteContested")["type"] == "Warning"
    corrections = [seen for seen in agent.proxy.seen if ROUTES(seen) and seen.at > began]
    assert 1 <= len(corrections) < FIGHT

    for _ in range(3):  # what gives users away is put right all the same
        rewrite(agent, 90, by="gitops")
        until("it is put right", lambda: share(agent) <= 40, 10)
    agent.spoil()
    until("and so is a rollback", lambda: not agent.exposed(), 10)
    version = agent.story.until("it says so", lambda v: v["status"]["phase"] == "RolledBack")
    assert "gitops changes HTTPRoute" in version["status"]["message"]


@pytest.fixture
def gateway(quiet_admin: Api) -> Iterator[Json]:
    """A Gateway that may go: nobody else's routes are attached to it."""
    listener = {"name": "http", "protocol": "HTTP", "port": 8088}
    manifest: dict[str, Any] = {
        "metadata": {"name": "passing"},
        "spec": {
            "gatewayClassName": "envoy",
            "listeners": [{**listener, "allowedRoutes": {"namespaces": {"from": "All"}}}],
        },
    }
    api = quiet_admin.within("gateway")
    api.create("gateways", manifest)
    yield manifest
    if api.find("gateways", "passing") is not None:
        api.delete("gateways", "passing")


@pytest.mark.soak
def test_a_gateway_that_is_deleted_is_told_and_comes_back(
    scene: Scene, gateway: Json, quiet_admin: Api
) -> None:
    parents = [{"name": "passing", "namespace": "gateway"}]
    story, api = scene.story, quiet_admin.within("gateway")
    story.create(longer(DARK), FULL, traffic={"gatewayAPI": {"parentRefs": parents}})
    story.ready()
    story.prompt(BETTER_PROMPT)
    story.in_phase("dark")
    api.delete("gateways", "passing")
    version = story.until(
        "the status says so",
        lambda v: "There is no Gateway gateway/passing" in v["status"]["message"],
        MEMORY + PATIENCE,
    )
    assert says(version, "TrafficProgrammed") == "False"
    assert shares(version)[version["status"]["stableRevision"]] == 100
    api.create("gateways", gateway)
    story.until("it goes on", lambda v: says(v, "TrafficProgrammed") == "True", MEMORY + PATIENCE)


def test_of_two_agents_that_claim_one_host_the_younger_is_told_that_it_gets_nothing(
    scene: Scene,
) -> None:
    story = scene.story
    first = story.stable(longer(DARK), FULL)
    second = manifest(scene.namespace, longer(DARK), FULL, prompt=BETTER_PROMPT)
    second["metadata"] = {"name": "twin", "namespace": scene.namespace}
    scene.api.create("agentdeployments", second)

    def told() -> Json | None:
        status: Json = scene.api.get("agentdeployments", "twin").get("status") or {}
        words = "AgentDeployment support, which is older, asks the Gateway for the same requests"
        return status if words in status.get("message", "") else None

    status = until("the younger one is told", told)
    assert next(c for c in status["conditions"] if c["type"] == "Ready")["status"] == "False"
    assert {story.ask().json()["revision"] for _ in range(20)} == {first}
    scene.api.delete("agentdeployments", NAME)

    def takes_over() -> bool:
        status = scene.api.get("agentdeployments", "twin")["status"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])

    until("it gets them when the older one goes", takes_over)
    assert story.ask().json()["revision"] == status["stableRevision"]
