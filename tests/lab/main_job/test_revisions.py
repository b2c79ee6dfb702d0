"""What is a revision, and what is not."""

from __future__ import annotations

import pytest

from tests.lab.main_job.cluster import Json
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    DARK,
    FULL,
    GOOD_PROMPT,
    NAME,
    container,
    longer,
    policy,
    template,
)
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


QUIET: Json = {"sideEffects": "None"}


def test_content_of_a_config_map_is_a_revision_and_restoring_it_goes_back(story: Story) -> None:
    story.api.create("configmaps", prompt_map(GOOD_PROMPT))
    source = {"configMapKeyRef": {"name": "prompts", "key": "support"}}
    old = story.stable(longer(DARK), FULL, agent={**QUIET, "systemPromptFrom": source})
    story.users(30)
    story.api.patch("configmaps", "prompts", {"data": {"support": BETTER_PROMPT}})
    new = story.in_phase("dark")["status"]["candidateRevision"]
    assert new != old
    story.api.patch("configmaps", "prompts", {"data": {"support": GOOD_PROMPT}})
    version = story.ready()
    assert version["status"]["stableRevision"] == old
    assert "progress" not in version["status"]
    story.rollout(1, "Cancelled")


def test_a_key_that_nobody_refers_to_is_no_revision(story: Story) -> None:
    story.api.create("configmaps", prompt_map(GOOD_PROMPT))
    source = {"configMapKeyRef": {"name": "prompts", "key": "support"}}
    old = story.stable(longer(DARK), FULL, agent={**QUIET, "systemPromptFrom": source})
    story.api.patch("configmaps", "prompts", {"data": {"sales": "You sell."}})
    assert_no_revision(story, old)


def test_restoring_an_old_spec_after_promotion_brings_all_of_it_back(story: Story) -> None:
    story.api.create("configmaps", {"metadata": {"name": "extra"}, "data": {"TONE": "kind"}})
    reads = container(envFrom=[{"configMapRef": {"name": "extra"}}])
    old = story.stable(FULL, template=template(reads))
    story.users()
    story.change(agent={"systemPrompt": BETTER_PROMPT})
    new = story.until("promoted", lambda v: v["status"]["stableRevision"] != old)
    story.prompt(GOOD_PROMPT)
    version = story.in_phase("full", started=False)
    assert version["status"]["candidateRevision"] == old
    back = story.until("back", lambda v: v["status"]["stableRevision"] == old)
    assert back["status"]["previousRevision"] == new["status"]["stableRevision"]
    pods = story.api.list("pods", f"phasegate.dev/revision={old}")
    (env,) = [container["env"] for pod in pods for container in pod["spec"]["containers"]]
    assert {"name": "AGENT_SYSTEM_PROMPT", "value": GOOD_PROMPT} in env


NO_REVISION: tuple[Json, ...] = (
    {"metadata": {"labels": {"team": "a"}}},
    {"metadata": {"annotations": {"note": "b"}}},
    {"spec": {"replicas": 2}},
    {"spec": {"strategy": {"phases": [FULL]}}},
    {"spec": {"policyRef": {"name": "other"}}},
    {"spec": {"standby": {"keepWarm": "1h"}}},
    {"spec": {"owner": {"rollbackOwner": "bob"}}},
    {"spec": {"exposure": "Internal"}},
)


def test_metadata_replicas_strategy_policy_and_people_are_no_revision(story: Story) -> None:
    old = story.stable(longer(DARK), FULL)
    story.api.create("rollbackpolicies", {**policy(), "metadata": {"name": "other"}})
    for change in NO_REVISION:
        story.edit(change)
        version = story.until(f"{change} is seen", lambda version: True)
        assert version["status"]["rollouts"] == 0, change
    story.api.patch("rollbackpolicies", "other", {"spec": {"falseRollbackRate": "2%"}})
    assert_no_revision(story, old)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"agent": {"model": {"provider": "openai", "name": "gpt-5"}}}, id="model"),
        pytest.param({"agent": {"tools": [{"name": "crm"}]}}, id="tools"),
        pytest.param({"template": template(container({"TONE": "kind"}))}, id="template"),
    ],
)
def test_it_is_a_revision(story: Story, change: Json) -> None:
    old = story.stable(longer(DARK), FULL)
    story.change(**change)
    version = story.in_phase("dark", started=False)
    assert version["status"]["candidateRevision"] != old


def prompt_map(text: str) -> Json:
    return {"metadata": {"name": "prompts"}, "data": {"support": text}}


def assert_no_revision(story: Story, old: str) -> None:
    """After what was just done, a change that has to be seen is the next thing that is seen."""
    story.change(replicas=2, standby={"keepWarm": "2h"})
    version = story.until("two pods", lambda v: v["status"].get("readyReplicas") == 2)
    assert version["status"]["stableRevision"] == old
    assert version["status"]["rollouts"] == 0
    assert "candidateRevision" not in version["status"]
    assert story.api.list("agentrollouts") == []
    revisions = story.api.list("controllerrevisions")
    assert [item["metadata"]["name"] for item in revisions] == [f"{NAME}-{old}"]
