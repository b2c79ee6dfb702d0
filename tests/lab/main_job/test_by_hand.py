"""One act of one person: users leave a candidate, a stable revision, or the agent altogether."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from tests.lab.main_job.cluster import Json, until
from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, FULL, container
from tests.lab.main_job.story import Answer, Story, condition_of, says, seconds

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

DESK = "human-desk"


def statuses(answers: Sequence[Answer], since: float = 0.0) -> Counter[int]:
    """How many users got which status, of those who asked after `since`."""
    return Counter(answer.status for answer in answers if answer.sent > since)


def open_desk(story: Story) -> None:
    """Something that answers and is no agent of Phasegate's."""
    labels, desk = {"app": DESK}, container({"AGENT_REVISION": DESK})
    pods: Json = {"metadata": {"labels": labels}, "spec": {"containers": [desk]}}
    story.api.create(
        "deployments",
        {
            "metadata": {"name": DESK},
            "spec": {"selector": {"matchLabels": labels}, "template": pods},
        },
    )
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"selector": labels, "ports": ports}
    story.api.create("services", {"metadata": {"name": DESK}, "spec": spec})

    def serves() -> bool:
        status = story.api.get("deployments", DESK).get("status") or {}
        return bool(status.get("readyReplicas"))

    until("the desk is open", serves)


def switched_off(story: Story, revision: str) -> float:
    """Wait for the gateway's word on it; when that was."""
    action = story.act("KillSwitch", revision, reason="it insults people")
    assert story.outcome(action)["outcome"] == "Accepted"
    version = story.until(
        "off",
        lambda v: v["status"]["phase"] == "Deactivated" and says(v, "TrafficProgrammed") == "True",
    )
    return seconds(condition_of(version, "TrafficProgrammed")["lastTransitionTime"])


def switched_on(story: Story, revision: str) -> float:
    story.act("Resume", revision, reason="mended")
    version = story.until(
        "on",
        lambda v: "deactivated" not in v["status"] and says(v, "TrafficProgrammed") == "True",
    )
    return seconds(condition_of(version, "TrafficProgrammed")["lastTransitionTime"])


def test_users_leave_a_candidate_that_is_frozen_paused_and_not_approved(story: Story) -> None:
    span = {"timeZone": "UTC", "from": "2020-01-01", "until": "2099-01-01"}
    always = [{"name": "holidays", "reason": "nobody is here", **span}]
    old = story.stable(CANARY, {**FULL, "approval": "Required"})
    users = story.users()
    story.prompt(BETTER_PROMPT)
    waiting = story.until("awaits", lambda v: says(v, "AwaitingApproval") == "True")
    new = waiting["status"]["candidateRevision"]
    story.outcome(story.act("Pause", new))
    story.change(freezes=always)
    users.go_on_until("the candidate", lambda got: any(a.revision == new for a in got))
    action = story.act("Rollback", new, reason="customers complain")
    safe = seconds(story.rolled_back()["status"]["rollback"]["safeAt"])
    answers = users.go_on_past(safe + 1)
    assert {(a.revision, a.status) for a in answers if a.sent > safe} == {(old, 200)}
    assert statuses(answers).keys() == {200}
    assert story.outcome(action)["outcome"] == "Accepted"
    assert story.rollout(1, "RolledBack")["status"]["incident"]["by"] == "admin"


def test_a_stable_revision_is_taken_back_and_the_agent_is_switched_off_and_on(
    story: Story,
) -> None:
    old = story.stable(CANARY, FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    promoted = story.until("stable", lambda v: v["status"]["stableRevision"] != old)
    new = promoted["status"]["stableRevision"]
    action = story.act("Rollback", new, reason="customers complain")
    assert story.outcome(action)["outcome"] == "Accepted"
    back = story.rolled_back()
    assert back["status"]["stableRevision"] == old
    safe = seconds(back["status"]["rollback"]["safeAt"])
    answers = users.go_on_past(safe + 1)
    assert {a.revision for a in answers if a.sent > safe} == {old}
    assert statuses(answers).keys() == {200}

    open_desk(story)
    story.change(fallback={"service": {"name": DESK, "port": 80}})
    off = switched_off(story, old)
    answers = users.go_on_past(off + 2)
    assert {a.revision for a in answers if a.sent > off + 1} == {DESK}
    assert statuses(answers, off + 1).keys() == {200}
    on = switched_on(story, old)
    answers = users.go_on_past(on + 2)
    assert {a.revision for a in answers if a.sent > on + 1} == {old}

    story.change(fallback=None)
    off = switched_off(story, old)
    answers = users.go_on_past(off + 2)
    assert statuses(answers, off + 1).keys() == {503}
    assert "switched off" in story.ask().json()["error"]
    on = switched_on(story, old)
    answers = users.go_on_past(on + 2)
    assert {(a.revision, a.status) for a in answers if a.sent > on + 1} == {(old, 200)}
    assert statuses(answers).keys() == {200, 503}, "nobody gets an error on the way there or back"
