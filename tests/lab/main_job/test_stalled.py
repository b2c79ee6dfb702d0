"""What only the operator can see: the reason, the words of whoever refused, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.main_job.cluster import Json
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    DARK,
    FULL,
    NAME,
    agent,
    container,
    longer,
    policy,
    template,
)
from tests.lab.main_job.story import Story, condition_of, says, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def test_a_missing_policy_holds_the_rollout_until_it_is_created(story: Story) -> None:
    story.create_agent(agent(story.api.namespace, longer(DARK), FULL))
    story.ready()  # there is nothing to judge in a first revision
    story.prompt(BETTER_PROMPT)
    words = story.stalled("PolicyNotFound")
    assert "spec.policyRef.name: RollbackPolicy 'policy' does not exist" in words
    assert story.ask().status_code == 200
    story.api.create("rollbackpolicies", policy())
    story.in_phase("dark", started=False)


def test_an_image_that_never_becomes_ready_is_told_in_the_kubelets_words(story: Story) -> None:
    old = story.stable(longer(DARK), FULL)
    story.change(template=template(container(image="example.com/not-there:1")))
    words = story.stalled("CandidateNotReady")
    assert "0 of 1 pods of" in words
    assert 'Failed to pull image "example.com/not-there:1"' in words
    assert story.ask().json()["revision"] == old
    story.change(template=template(container({"TONE": "kind"})))
    version = story.in_phase("dark")
    assert says(version, "Stalled") == ""
    assert version["status"]["rollouts"] == 2


def test_a_crashing_candidate_is_told_with_its_exit_code(story: Story) -> None:
    story.stable(longer(DARK), FULL)
    story.change(template=template(container({"FAULT_NO_SUCH_KNOB": "1"})))
    words = story.stalled("CandidateNotReady")
    assert "CrashLoopBackOff" in words


REFUSED = [
    pytest.param(
        container(resources={"requests": {"cpu": "much"}}),
        "quantities must match the regular expression",
        id="quantity",
    ),
    pytest.param(
        container(volumeMounts=[{"name": "nowhere", "mountPath": "/data"}]),
        'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "nowhere"',
        id="volume-mount",
    ),
    pytest.param(
        container(
            ports=[{"name": "http", "containerPort": 8080}, {"name": "http", "containerPort": 81}]
        ),
        'spec.template.spec.containers[0].ports[1].name: Duplicate value: "http"',
        id="port-name",
    ),
    pytest.param(container(imagePullPolicy="Sometimes"), "imagePullPolicy", id="enum"),
    pytest.param(container(comand=["sleep"]), "comand", id="typo"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_a_wrong_template_is_refused_in_the_api_servers_words(
    story: Story, wrong: Json, words: str
) -> None:
    old = story.stable(longer(DARK), FULL)
    story.change(template=template(wrong))
    assert words in story.stalled("TemplateRefused")
    seen = story.watch.seen[-1]["status"]
    assert (seen["stableRevision"], seen["rollouts"]) == (old, 0)
    story.change(template=template(container()))
    story.ready()


def test_a_first_revision_with_a_wrong_template_is_told_too(story: Story) -> None:
    wrong = container(volumeMounts=[{"name": "nowhere", "mountPath": "/data"}])
    story.create(longer(DARK), FULL, template=template(wrong))
    assert "Not found" in story.stalled("TemplateRefused")
    story.change(template=template(container()))
    story.ready()


def test_a_missing_gateway_is_told_and_goes_on_when_it_is_corrected(story: Story) -> None:
    nowhere = {"gatewayAPI": {"parentRefs": [{"name": "nowhere", "namespace": "gateway"}]}}
    story.create(longer(DARK), FULL, traffic=nowhere)
    version = story.until(
        "the gateway is missing", lambda v: "nowhere" in v["status"].get("message", "")
    )
    assert condition_of(version, "Ready")["reason"] in ("WaitingForRoute", "RouteNotAccepted")
    assert "There is no Gateway gateway/nowhere" in version["status"]["message"]
    right = [{"name": "lab", "namespace": "gateway"}]
    story.change(traffic={"gatewayAPI": {"parentRefs": right}})
    story.ready()


def test_a_route_that_the_gateway_refuses_is_stalled_in_its_words(story: Story) -> None:
    refused = [{"name": "lab", "namespace": "gateway", "sectionName": "https"}]
    story.create(longer(DARK), FULL, traffic={"gatewayAPI": {"parentRefs": refused}})
    version = story.until(
        "the gateway's words", lambda v: "Accepted is False" in v["status"].get("message", "")
    )
    assert condition_of(version, "Ready")["reason"] == "WaitingForRoute"
    words = story.stalled("RouteNotAccepted")  # it has been given its time
    assert "Gateway gateway/lab: Accepted is False (NoMatchingParent)" in words
    right = [{"name": "lab", "namespace": "gateway"}]
    story.change(traffic={"gatewayAPI": {"parentRefs": right}})
    story.ready()


@pytest.fixture
def mute_gateway(story: Story) -> Iterator[Json]:
    """A reference to a Gateway of a controller of which nothing is known."""
    name = f"mute-{story.api.namespace}"
    controller = {"controllerName": "example.com/unknown-controller"}
    story.api.create("gatewayclasses", {"metadata": {"name": name}, "spec": controller})
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": name, "listeners": [listener]}
    story.api.create("gateways", {"metadata": {"name": "mute"}, "spec": spec})
    yield {"name": "mute"}
    story.api.delete("gatewayclasses", name)


def test_a_gateway_that_cannot_mirror_is_no_place_for_dark(
    story: Story, mute_gateway: Json
) -> None:
    story.stable(longer(DARK), FULL)
    story.change(
        agent={"systemPrompt": BETTER_PROMPT},
        traffic={"gatewayAPI": {"parentRefs": [mute_gateway]}},
    )
    words = story.stalled("RouterCannotMirror")
    assert "phase dark copies requests, which this router cannot do" in words
    assert "use a strategy without Dark and Shadow phases" in words
    assert story.watch.seen[-1]["status"]["rollouts"] == 0


def test_an_exceeded_quota_is_told_in_the_quotas_words(story: Story) -> None:
    old = story.stable(longer(DARK), FULL)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    story.api.create("resourcequotas", quota)
    story.prompt(BETTER_PROMPT)
    words = story.stalled("CandidateNotReady")
    assert "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1" in words
    assert story.ask().json()["revision"] == old
    story.api.patch("resourcequotas", "few", {"spec": {"hard": {"pods": "5"}}})
    story.in_phase("dark")


def test_dark_without_traffic_is_not_passed(story: Story) -> None:
    old = story.stable(DARK, longer(FULL))
    story.prompt(BETTER_PROMPT)
    story.in_phase("dark")
    held = story.until(
        "its time is over",
        lambda v: (
            v["status"]["message"].startswith("dark: ")
            and "to go" not in v["status"]["message"]
            and "startedAt" in v["status"]["progress"]
        ),
    )
    assert condition_of(held, "Ready")["reason"] in ("NoData", "CollectingEvidence")
    verdicts = {check["verdict"] for check in held["status"]["checks"]}
    assert verdicts <= {"Inconclusive"}
    assert shares(held)[old] == 100
    users = story.users()  # and now there is something to judge
    users.go_on_until("the agent serves", lambda got: len(got) > 100)
    story.in_phase("full")


def test_a_missing_config_map_is_told_and_found_when_it_is_created(story: Story) -> None:
    source = {"configMapKeyRef": {"name": "prompts", "key": "support"}}
    story.create(longer(DARK), FULL, agent={"systemPromptFrom": source, "sideEffects": "None"})
    words = story.stalled("ConfigMapNotFound")
    assert "spec.agent.systemPromptFrom.configMapKeyRef: ConfigMap 'prompts'" in words
    data = {"metadata": {"name": "prompts"}, "data": {"support": BETTER_PROMPT}}
    story.api.create("configmaps", data)
    story.ready()


def test_a_service_of_somebody_else_is_left_alone(story: Story) -> None:
    selector = {"app": "legacy"}
    spec = {"selector": selector, "ports": [{"port": 80}]}
    story.api.create("services", {"metadata": {"name": NAME}, "spec": spec})
    story.create(longer(DARK), FULL)
    assert f"a Service {NAME} that is not Phasegate's exists" in story.stalled("InvalidSpec")
    assert story.api.get("services", NAME)["spec"]["selector"] == selector
    story.api.delete("services", NAME)
    story.change(replicas=2)
    story.ready()
