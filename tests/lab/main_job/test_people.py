"""People's decisions: RolloutActions, created by those who may, carried out by the operator."""

from __future__ import annotations

import uuid
from functools import partial

import pytest

from lab import Lab
from tests.lab.main_job.cluster import Api, Refusal, until
from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, DARK, FULL, longer
from tests.lab.main_job.story import Story, condition_of, says, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

RBAC = "rbac.authorization.k8s.io"


def grant(story: Story, person: str, *verbs: str) -> None:
    """Give somebody a Role that allows these decisions about agents, and wait until it counts."""
    name = f"role-{uuid.uuid4().hex[:6]}"
    rules = [
        {"apiGroups": ["phasegate.dev"], "resources": ["rolloutactions"], "verbs": ["create"]},
        {"apiGroups": ["phasegate.dev"], "resources": ["agentdeployments"], "verbs": list(verbs)},
    ]
    story.api.create("roles", {"metadata": {"name": name}, "rules": rules})
    bind(story, person, "Role", name)


def bind(story: Story, person: str, kind: str, name: str) -> None:
    subject = {"kind": "User", "name": person, "apiGroup": RBAC}
    binding = {
        "metadata": {"name": f"{person}-{name}"},
        "roleRef": {"kind": kind, "name": name, "apiGroup": RBAC},
        "subjects": [subject],
    }
    story.api.create("rolebindings", binding)


def may(api: Api, resource: str, verb: str) -> bool:
    """Whether this person has the right by now."""
    asked = {
        **{"group": "phasegate.dev", "resource": resource, "verb": verb},
        "namespace": api.namespace,
    }
    review = {"spec": {"resourceAttributes": asked}}
    return bool(api.create("selfsubjectaccessreviews", review)["status"]["allowed"])


def given(api: Api, *verbs: str) -> Api:
    """The person's view, once the rights are in force."""
    until("the right to decide", lambda: may(api, "rolloutactions", "create"))
    for verb in verbs:
        until(f"the right to {verb}", partial(may, api, "agentdeployments", verb))
    return api


def taken_back(story: Story) -> str:
    """A revision that a person took back in Dark; its hash."""
    story.stable(longer(DARK), FULL)
    story.prompt(BETTER_PROMPT)
    new = str(story.in_phase("dark")["status"]["candidateRevision"])
    story.act("Rollback", new)
    story.rolled_back()
    return new


def test_what_was_rolled_back_is_not_tried_again_by_itself(story: Story) -> None:
    new = taken_back(story)
    story.edit({"metadata": {"labels": {"team": "support"}}})
    story.change(standby={"keepWarm": "1h"})
    version = story.until("seen", lambda version: True)
    assert "progress" not in version["status"]
    assert condition_of(version, "Stalled")["reason"] == "RolledBack"
    assert version["status"]["rejectedRevisions"] == [new]
    assert version["status"]["rollouts"] == 1
    assert "Retry" in version["status"]["message"]


def test_a_retry_starts_again_from_the_first_phase(story: Story, lab: Lab) -> None:
    new = taken_back(story)
    grant(story, "alice", "retry")
    with Api.of(lab, "alice") as person:
        alice = given(person.within(story.api.namespace), "retry")
        action = story.act("Retry", new, api=alice, actor="alice", reason="the model was down")
    assert story.outcome(action)["outcome"] == "Accepted"
    version = story.in_phase("dark")
    assert version["status"]["candidateRevision"] == new
    assert version["status"]["currentRollout"].endswith("-2")
    assert "rollback" not in version["status"]
    assert says(version, "RolledBack") == "False"
    note = story.event("ActionAccepted")
    assert note["reason"] == "ActionAccepted"


def test_a_decision_without_the_right_role_is_refused_at_admission(story: Story, lab: Lab) -> None:
    new = taken_back(story)
    grant(story, "alice", "pause", "resume")
    with Api.of(lab, "alice") as person:
        alice = given(person.within(story.api.namespace), "pause")
        with pytest.raises(Refusal, match="you may not retry the agent") as refused:
            story.act("Retry", new, api=alice, actor="alice")
    assert refused.value.status == 403
    assert story.api.get("agentdeployments", "support")["status"]["rollouts"] == 1


def test_a_decision_in_anothers_name_is_refused_at_admission(story: Story, lab: Lab) -> None:
    grant(story, "alice", "retry", "rollback")
    with Api.of(lab, "alice") as person:
        alice = given(person.within(story.api.namespace), "retry")
        with pytest.raises(Refusal, match="nobody decides in the name of another"):
            story.act("Retry", "0123456789", api=alice, actor="bob")


def test_pause_holds_beyond_the_minimum_and_resume_goes_on(story: Story) -> None:
    story.stable(DARK, longer(CANARY), FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    version = story.in_phase("dark")
    new = version["status"]["candidateRevision"]
    pause = story.act("Pause", new, reason="waiting for the all-clear")
    assert story.outcome(pause)["outcome"] == "Accepted"
    held = story.until("paused", lambda v: condition_of(v, "Ready")["reason"] == "Paused")
    assert "paused by admin: waiting for the all-clear" in held["status"]["message"]
    users.go_on_past(seconds(version["status"]["progress"]["startedAt"]) + 7)
    here = story.api.get("agentdeployments", "support")["status"]
    assert here["progress"]["phase"]["name"] == "dark"
    assert here["progress"]["hold"]["by"] == "admin"
    resume = story.act("Resume", new)
    assert story.outcome(resume)["outcome"] == "Accepted"
    story.in_phase("canary-40")


def test_a_person_takes_the_candidate_back_with_a_reason(story: Story, lab: Lab) -> None:
    old = story.stable(longer(CANARY), FULL)
    users = story.users()
    bind(story, "alice", "ClusterRole", "phasegate-rollback-owner")
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    users.go_on_until("the candidate", lambda got: any(a.revision == new for a in got))
    with Api.of(lab, "alice") as person:
        alice = given(person.within(story.api.namespace), "rollback")
        story.act("Rollback", new, api=alice, actor="alice", reason="customers complain")
    version = story.rolled_back()
    rollback = version["status"]["rollback"]
    assert (rollback["trigger"], rollback["by"]) == ("Rollback", "alice")
    assert rollback["message"] == "customers complain"
    safe = seconds(rollback["safeAt"])
    answers = users.go_on_past(safe + 2)
    assert {(a.revision, a.status) for a in answers if a.sent > safe} == {(old, 200)}
    assert {answer.status for answer in answers} == {200}
    assert story.rollout(1, "RolledBack")["status"]["incident"]["by"] == "alice"


def test_a_phase_that_needs_an_approval_waits_for_it(story: Story, lab: Lab) -> None:
    old = story.stable({**FULL, "approval": "Required"}, author="carol")
    story.users()
    bind(story, "bob", "ClusterRole", "phasegate-approver")
    story.prompt(BETTER_PROMPT)
    waiting = story.until("awaits", lambda v: says(v, "AwaitingApproval") == "True")
    new = waiting["status"]["candidateRevision"]
    assert (
        f"verb Approve for revision {new}" in condition_of(waiting, "AwaitingApproval")["message"]
    )
    assert shares(waiting) == {old: 100, new: 0}
    with Api.of(lab, "bob") as person:
        bob = given(person.within(story.api.namespace), "approve")
        story.act("Approve", new, api=bob, actor="bob", reason="reviewed")
    done = story.until("stable", lambda v: v["status"]["stableRevision"] == new)
    assert says(done, "AwaitingApproval") == "False"
    gates = story.rollout(1, "Succeeded")["status"]["gates"]
    assert [gate.get("by") for gate in gates] == ["carol", "bob"]


def test_a_decision_about_another_revision_is_refused_with_the_reason(story: Story) -> None:
    story.stable(longer(DARK), FULL)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("dark")["status"]["candidateRevision"]
    outcome = story.outcome(story.act("Rollback", "0123456789"))
    assert outcome["outcome"] == "Refused"
    assert f"but {new} is being rolled out" in outcome["message"]
    assert story.event("ActionRefused")["type"] == "Warning"


def test_a_rejected_approval_takes_the_candidate_back(story: Story) -> None:
    old = story.stable({**FULL, "approval": "Required"})
    story.prompt(BETTER_PROMPT)
    waiting = story.until("awaits", lambda v: says(v, "AwaitingApproval") == "True")
    story.act("Reject", waiting["status"]["candidateRevision"], reason="not now")
    version = story.rolled_back()
    assert version["status"]["rollback"]["message"] == "not now"
    assert shares(version)[old] == 100
