"""The operator's objects and the users': whose is what."""

from __future__ import annotations

from functools import partial

import pytest

from tests.lab.main_job.cluster import Json, until
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    FULL,
    NAME,
    hostname,
    longer,
)
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def test_hostnames_reach_the_route_and_the_gateway(story: Story) -> None:
    story.stable()
    other = f"other-{story.api.namespace}.example.com"
    story.change(traffic={"gatewayAPI": {"hostnames": [other]}})
    until("the new host name", lambda: story.ask(other).status_code == 200)
    until("not the old one", lambda: story.ask().status_code == 404)
    assert story.api.get("httproutes", NAME)["spec"]["hostnames"] == [other]


def test_a_foreign_edit_of_the_route_is_undone(story: Story) -> None:
    story.stable(longer(CANARY), FULL)
    story.users(30)
    story.prompt(BETTER_PROMPT)
    story.in_phase("canary-40")
    before = story.api.get("httproutes", NAME)["spec"]
    rule = before["rules"][0]
    weights = [{**ref, "weight": 1} for ref in rule["backendRefs"]]
    foreign = {
        "hostnames": [hostname("elsewhere")],
        "rules": [{**rule, "backendRefs": weights}],
    }
    story.api.patch("httproutes", NAME, {"spec": foreign})
    until("undone", partial(route_says, story, before))


def test_a_route_that_was_deleted_is_made_again(story: Story) -> None:
    story.stable()
    before = story.api.get("httproutes", NAME)["spec"]
    story.api.delete("httproutes", NAME)
    until("made again", partial(route_says, story, before))


def test_nothing_but_status_and_finalizer_is_written_on_users_objects(story: Story) -> None:
    annotations = {"team.example.com/note": "ours"}
    story.stable(longer(CANARY), FULL)
    story.edit({"metadata": {"annotations": annotations}})
    story.users(30)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    story.outcome(story.act("Pause", new))
    agent = story.api.get("agentdeployments", NAME)
    assert agent["metadata"]["annotations"] == annotations
    assert agent["metadata"]["finalizers"] == ["phasegate.dev/traffic"]
    ours = [entry for entry in agent["metadata"]["managedFields"] if not of_people(entry)]
    assert ours
    assert set.union(*(owned_fields(entry) for entry in ours)) == {"status", "metadata.finalizers"}
    for kind in ("rollbackpolicies", "rolloutactions"):
        (found,) = story.api.list(kind)
        assert "annotations" not in found["metadata"]
        assert "finalizers" not in found["metadata"]
        others = [entry for entry in found["metadata"]["managedFields"] if not of_people(entry)]
        assert all(owned_fields(entry) == {"status"} for entry in others)


def route_says(story: Story, spec: Json) -> bool:
    route = story.api.find("httproutes", NAME)
    said: object = route and route["spec"]
    return said == spec


def owned_fields(managed: Json) -> set[str]:
    """Top-level fields (of metadata one level more) that an entry of managedFields owns."""
    fields = managed.get("fieldsV1", {})
    found = {f"metadata.{key[2:]}" for key in fields.get("f:metadata", {})}
    return found | {key[2:] for key in fields if key != "f:metadata"}


def of_people(entry: Json) -> bool:
    """Whether an entry of managedFields is this test's own."""
    return str(entry["manager"]).startswith(("python-httpx", "kubectl"))
