"""Objects that people edit, wipe, delete or make again in mid-rollout: where it ends."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
import yaml

from tests.lab.faults.scene import Scene
from tests.lab.main_job.cluster import Api, Json, until
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    FULL,
    NAME,
    agent,
    longer,
)
from tests.lab.main_job.story import says, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

LOOSER = {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "30%"}}


def test_a_policy_edited_and_then_deleted_is_what_a_restarted_operator_judges_by(
    scene: Scene,
) -> None:
    story = scene.story
    canary(scene)
    scene.api.patch("rollbackpolicies", "policy", {"spec": {"metrics": [LOOSER]}})
    story.until("the edit counts at once", lambda v: "0.3" in limits(v))
    scene.api.delete("rollbackpolicies", "policy")
    assert "does not exist" in story.stalled("PolicyNotFound")
    scene.operator.kill()
    story.edit({"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": 2}})
    scene.operator.start()
    held = story.until(
        "judged by what was kept",
        lambda v: "judged by the policy as it was last read" in v["status"]["message"],
    )
    assert limits(held) == {"0.3"}  # the default policy says 0.05
    assert held["status"]["progress"]["phase"]["name"] == "canary-40"


def test_a_lost_status_ends_with_stable_and_loses_no_record(scene: Scene) -> None:
    story = scene.story
    old, new = canary(scene)
    users = story.users()
    users.go_on_until("the candidate", lambda got: any(a.revision == new for a in got))
    began = scene.api.get("agentrollouts", f"{NAME}-1")["status"]["gates"]
    refused = wipe(scene)
    assert refused.status_code == 403
    assert "only the operator writes it" in refused.json()["message"]
    wipe(scene, of_the_operator(scene)).raise_for_status()
    closed = story.rollout(1, "Cancelled")
    assert closed["status"]["gates"][: len(began)] == began
    assert f"the status of {NAME} was lost" in closed["status"]["message"]
    second = f"{NAME}-2"
    again = story.until("again", lambda v: v["status"].get("currentRollout") == second)["status"]
    assert (again["stableRevision"], again["candidateRevision"]) == (old, new)
    assert {answer.status for answer in users.stop()} == {200}


def test_an_agent_deleted_and_made_again_in_mid_rollout_begins_anew(scene: Scene) -> None:
    story, api = scene.story, scene.api
    canary(scene)
    before = api.get("agentdeployments", NAME)["metadata"]["uid"]
    api.delete("agentdeployments", NAME)
    story.until("gone", lambda version: "deleted" in version)
    made = story.create_agent(agent(api.namespace, longer(CANARY), FULL, prompt=BETTER_PROMPT))
    uid = made["metadata"]["uid"]
    ready = story.until(
        "Ready", lambda v: v["metadata"]["uid"] == uid and says(v, "Ready") == "True"
    )
    assert uid != before
    assert "progress" not in ready["status"]  # the first revision of a new agent
    assert shares(ready) == {ready["status"]["stableRevision"]: 100}
    until("it serves", lambda: story.ask().status_code == 200)
    for kind in ("deployments", "services", "controllerrevisions", "httproutes"):
        until(f"only its own {kind}", partial(only_of, api, kind, uid))


def test_children_deleted_by_hand_come_back_and_what_others_wrote_on_them_stays(
    scene: Scene,
) -> None:
    story, api = scene.story, scene.api
    old = story.stable(longer(CANARY), FULL)
    note = {"annotations": {"team.example.com/note": "ours"}, "labels": {"team": "support"}}
    marked = (("httproutes", NAME), ("services", f"{NAME}-{old}"), ("deployments", f"{NAME}-{old}"))
    for kind, name in marked:
        api.patch(kind, name, {"metadata": note})
    users = story.users()
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    for kind, name in marked:
        found = api.get(kind, name)["metadata"]
        assert note["annotations"].items() <= found["annotations"].items()
        assert note["labels"].items() <= found["labels"].items()
    users.go_on_until("an answer", bool)
    assert {answer.status for answer in users.stop()} == {200}
    for kind, name in (
        ("controllerrevisions", f"{NAME}-{old}"),
        ("controllerrevisions", f"{NAME}-{new}"),
        ("services", NAME),
        ("services", f"{NAME}-{old}"),
        ("httproutes", NAME),
    ):
        gone = api.get(kind, name)
        api.delete(kind, name)
        until(f"{kind} {name} again", partial(made_again, api, kind, gone))
    weights = api.get("httproutes", NAME)["spec"]["rules"][0]["backendRefs"]
    assert sorted(ref["weight"] for ref in weights) == [40, 60]
    until("it serves", lambda: story.ask().status_code == 200)
    now = api.get("agentdeployments", NAME)["status"]
    assert (now["currentRollout"], now["progress"]["phase"]["name"]) == (f"{NAME}-1", "canary-40")


@pytest.mark.soak
def test_an_agent_deleted_while_the_operator_is_down_waits_for_it_and_serves(scene: Scene) -> None:
    story, api = scene.story, scene.api
    canary(scene)
    users = story.users()
    scene.operator.kill()
    api.delete("agentdeployments", NAME)
    asked = api.get("agentdeployments", NAME)
    assert asked["metadata"]["finalizers"] == ["phasegate.dev/traffic"]
    users.go_on_until("users go on", lambda got: len(got) > 100)
    scene.operator.start()
    story.until("gone", lambda version: "deleted" in version)
    users.go_on_until("no route", lambda got: got[-1].status == 404)
    assert {answer.status for answer in users.stop()} == {200, 404}


def test_a_namespace_deleted_in_mid_rollout_goes(scene: Scene) -> None:
    canary(scene)
    scene.lab.kubectl("delete", "namespace", scene.namespace, "--wait=false")
    space = f"/api/v1/namespaces/{scene.namespace}"
    until("it is gone", lambda: scene.api.http.get(space).status_code == 404)
    assert "bug in a pass" not in scene.operator.log
    assert scene.operator.running


def canary(scene: Scene) -> tuple[str, str]:
    """A rollout that stays where some of the users have the candidate: stable and candidate."""
    old = scene.story.stable(longer(CANARY), FULL)
    scene.story.prompt(BETTER_PROMPT)
    return old, scene.story.in_phase("canary-40")["status"]["candidateRevision"]


def wipe(scene: Scene, authorization: str = "") -> httpx.Response:
    """As `kubectl patch --subresource=status` does."""
    headers = {"Content-Type": "application/merge-patch+json"}
    if authorization:
        headers["Authorization"] = authorization
    path = f"{scene.api.path('agentdeployments')}/{NAME}/status"
    return scene.api.http.patch(path, json={"status": None}, headers=headers)


def of_the_operator(scene: Scene) -> str:
    """Who a backup that is restored without its status, or an old version, would write as."""
    config = yaml.safe_load(scene.proxy.kubeconfig.read_text())
    return f"Bearer {config['users'][0]['user']['token']}"


def limits(version: Json) -> set[str]:
    return {check.get("limit", "") for check in version["status"].get("checks", ())}


def only_of(api: Api, kind: str, uid: str) -> bool:
    found = api.list(kind)
    return bool(found) and all(o["metadata"]["ownerReferences"][0]["uid"] == uid for o in found)


def made_again(api: Api, kind: str, gone: Json) -> bool:
    """Whether an object is there again, saying what it said."""
    found = api.find(kind, gone["metadata"]["name"])
    if found is None or found["metadata"]["uid"] == gone["metadata"]["uid"]:
        return False
    if "spec" in gone and kind == "services":
        return bool(found["spec"]["selector"] == gone["spec"]["selector"])
    said = "spec" if "spec" in gone else "data"
    return bool(found[said] == gone[said])
