"""Edits while a rollout runs, and deletion."""

from __future__ import annotations

from functools import partial

import pytest

from tests.lab.main_job.cluster import until
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    DARK,
    FULL,
    GOOD_PROMPT,
    NAME,
    longer,
)
from tests.lab.main_job.story import Story, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def test_an_edit_mid_rollout_starts_again_from_dark_with_the_newest(story: Story) -> None:
    old = story.stable(DARK, longer(CANARY), FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    first = story.in_phase("canary-40")["status"]["candidateRevision"]
    story.prompt("You are the support agent. Answer in rhymes.")
    version = story.in_phase("dark", started=False)
    second = version["status"]["candidateRevision"]
    assert len({old, first, second}) == 3
    assert version["status"]["currentRollout"] == f"{NAME}-2"
    dark = story.in_phase("dark")
    assert shares(dark) == {old: 100, second: 0}
    begun = seconds(dark["status"]["progress"]["startedAt"])
    answers = users.go_on_past(begun + 1)
    assert {answer.revision for answer in answers if answer.sent > begun} == {old}
    assert {answer.status for answer in answers} == {200}
    record = story.rollout(1, "Superseded")
    assert second in record["status"]["message"]


def test_restoring_the_stable_spec_mid_rollout_is_immediate(story: Story) -> None:
    old = story.stable(longer(CANARY), FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    users.go_on_until("the candidate", lambda got: any(a.revision == new for a in got))
    story.prompt(GOOD_PROMPT)
    version = story.ready()
    assert "progress" not in version["status"]
    assert shares(version)[old] == 100
    record = story.rollout(1, "Cancelled")["status"]
    assert f"back at the stable revision {old}" in record["message"]
    back = seconds(version["status"]["lastGate"]["at"])
    answers = users.go_on_past(back + 3)
    assert {answer.revision for answer in answers if answer.sent > back + 1} == {old}
    assert {answer.status for answer in answers} == {200}
    assert version["status"].get("rejectedRevisions", []) == []


def test_editing_the_strategy_does_not_shorten_the_running_phase(story: Story) -> None:
    story.stable({**DARK, "minDuration": "6s"}, longer(CANARY), FULL)
    story.users()
    story.prompt(BETTER_PROMPT)
    begun = seconds(story.in_phase("dark")["status"]["progress"]["startedAt"])
    shorter = {**CANARY, "minDuration": "2s"}
    story.change(strategy={"phases": [{**DARK, "minDuration": "1s"}, shorter, FULL]})
    version = story.until("the edit is seen", lambda version: True)
    assert version["status"]["progress"]["phase"]["minDuration"] == "6s"
    canary = story.in_phase("canary-40")
    assert seconds(canary["status"]["lastGate"]["at"]) - begun >= 6
    assert canary["status"]["progress"]["phase"]["minDuration"] == "2s"


def test_deletion_mid_rollout_returns_the_traffic_before_anything_goes(story: Story) -> None:
    old = story.stable(longer(CANARY), FULL)
    users = story.users()
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    users.go_on_until("the candidate", lambda got: any(a.revision == new for a in got))
    story.api.delete("agentdeployments", NAME)
    deleting = story.until("Deleting", lambda v: v["status"]["phase"] == "Deleting")
    asked = seconds(deleting["metadata"]["deletionTimestamp"])
    story.until("gone", lambda version: "deleted" in version)
    answers = users.go_on_until("no route", lambda got: got[-1].status == 404)
    first_404 = next(answer for answer in answers if answer.status == 404)
    before = [answer for answer in answers if answer.sent < first_404.sent]
    assert {answer.status for answer in before} == {200}
    assert before[-1].revision == old
    assert first_404.sent > asked
    for kind in ("deployments", "services", "httproutes", "controllerrevisions"):
        until(f"no {kind}", partial(none_left, story, kind))


def test_an_agent_that_is_stable_is_deleted_without_asking_the_operator(story: Story) -> None:
    story.stable()
    assert "finalizers" not in story.api.get("agentdeployments", NAME)["metadata"]
    story.api.delete("agentdeployments", NAME)
    assert story.api.find("agentdeployments", NAME) is None


def none_left(story: Story, plural: str) -> bool:
    return not story.api.list(plural)
