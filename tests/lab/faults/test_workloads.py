"""Pods that crash, flap, vanish or cannot be made: users stay where they are served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pytest

from lab import Lab
from tests.lab.faults.scene import Scene
from tests.lab.main_job.cluster import Api, Json, until
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    FULL,
    container,
    longer,
    template,
)
from tests.lab.main_job.story import Answer, condition_of, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

GATE = "example.com/in-service"
HALF: Json = {**longer(CANARY), "name": "canary-60", "weight": 60}


def test_a_candidate_that_crashes_after_it_was_ready_loses_its_users(scene: Scene) -> None:
    story = scene.story
    old = story.stable(longer(CANARY), FULL)
    users = story.users()
    story.change(template=template(container({"FAULT_CRASH_AFTER_S": "6"})))
    story.in_phase("canary-40")
    back = story.rolled_back()
    assert back["status"]["rollback"]["trigger"] in ("availability", "error-rate")
    assert shares(back)[old] == 100
    users.go_on_until("stable serves", lambda got: all_with(got[-50:], old))


def test_losing_some_pods_changes_nothing_and_losing_all_takes_the_traffic_back(
    scene: Scene,
) -> None:
    story, api = scene.story, scene.api
    old = story.stable(HALF, FULL, replicas=2)
    story.users()
    gated = template(container(), readinessGates=[{"conditionType": GATE}])
    story.change(template=gated)
    new = story.in_phase("canary-60", started=False)["status"]["candidateRevision"]
    pods = until("two pods", lambda: two_of(api, new))
    for pod in pods:
        in_service(api, pod, "True")
    story.in_phase("canary-60")
    deployment = f"support-{new}"
    for _ in range(3):  # one of two flaps
        in_service(api, pods[0], "False")
        until("one ready", partial(ready_pods, api, deployment, 1))
        in_service(api, pods[0], "True")
        until("both ready", partial(ready_pods, api, deployment, 2))
    api.delete("pods", pods[0]["metadata"]["name"])
    until("one ready", partial(ready_pods, api, deployment, 1))
    now = story.until("a newer look", lambda version: True)["status"]
    assert now["progress"]["phase"]["name"] == "canary-60"
    assert "rollback" not in now
    in_service(api, pods[1], "False")
    back = story.rolled_back()
    assert back["status"]["rollback"]["trigger"] == "availability"
    assert shares(back)[old] == 100


def test_a_quota_that_is_reached_in_mid_rollout_holds_with_the_split_as_it_is(
    scene: Scene,
) -> None:
    story, api = scene.story, scene.api
    old = story.stable(CANARY, FULL, replicas=2)
    users = story.users()
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "3"}}}
    api.create("resourcequotas", quota)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    held = story.until(
        "the quota is told", lambda v: "exceeded quota: few" in v["status"]["message"]
    )
    assert condition_of(held, "Ready")["reason"] == "CandidateNotReady"
    assert shares(held) == {old: 60, new: 40}
    api.patch("resourcequotas", "few", {"spec": {"hard": {"pods": "9"}}})
    done = story.ready()
    assert shares(done)[new] == 100
    assert {answer.status for answer in users.answers} == {200}


def test_when_the_node_goes_stable_serves_as_soon_as_it_is_back(
    scene: Scene, quiet_lab: Lab
) -> None:
    story = scene.story
    old = story.stable(longer(CANARY), FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    story.in_phase("canary-40")
    quiet_lab.part("kill", "node")
    quiet_lab.part("start", "node")  # which begins with none of the pods it had
    back = story.rolled_back()
    assert back["status"]["rollback"]["trigger"] == "availability"
    users.go_on_until("stable serves", lambda got: all_with(got[-50:], old))
    assert "bug in a pass" not in scene.operator.log


def in_service(api: Api, pod: Json, status: str) -> None:
    """Say, as a controller of readiness gates does, whether a pod may serve."""
    condition = {"type": GATE, "status": status, "lastTransitionTime": None}
    answer = api.http.patch(
        f"{api.path('pods')}/{pod['metadata']['name']}/status",
        content=json.dumps({"status": {"conditions": [condition]}}),
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    answer.raise_for_status()


def two_of(api: Api, revision: str) -> list[Json] | None:
    """The two pods of a revision, once both run."""
    pods = api.list("pods", f"phasegate.dev/revision={revision}")
    running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    return running if len(running) == 2 else None


def ready_pods(api: Api, deployment: str, number: int) -> bool:
    status: Json = api.get("deployments", deployment)["status"]
    return int(status.get("readyReplicas", 0)) == number


def all_with(answers: Sequence[Answer], revision: str) -> bool:
    """Whether one revision answered all of these, well."""
    told = {(answer.revision, answer.status) for answer in answers}
    return len(answers) == 50 and told == {(revision, 200)}
