"""Everybody who waits for an agent is told the same: kstatus, `kubectl wait`, and who reads it.

kstatus is how Flux, kpt and Helm decide; it runs here as their own library.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from phasegate.api.agentdeployment import AgentDeploymentStatus

from lab import Lab
from lab.parts.build import parts
from tests.lab.history import Json
from tests.lab.story import BAD, FIRST, GOOD, NAME, Story
from tests.rollout.test_invariants import HISTORIES, begin, happen
from tests.rollout.test_invariants import History as Happenings
from tests.rollout.world import World

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def kstatus(objects: Sequence[Json]) -> list[str]:
    """What kstatus makes of each object."""
    lines = "".join(json.dumps(item) + "\n" for item in objects)
    done = subprocess.run(
        [parts().binary("kstatus")], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line)["status"] for line in done.stdout.splitlines()]


def conditions(item: Json) -> dict[str, Json]:
    return {c["type"]: c for c in item.get("status", {}).get("conditions", ())}


def met(item: Json, condition: str) -> bool:
    """Whether `kubectl wait --for=condition=…` goes on at this version (pkg/cmd/wait/condition.go)."""
    found = conditions(item).get(condition)
    if found is None or found["status"] != "True":
        return False
    return bool(found["observedGeneration"] >= item["metadata"]["generation"])


def expected(item: Json) -> str:
    """What docs/conditions.md promises, in kstatus' words."""
    if "deletionTimestamp" in item["metadata"]:
        return "Terminating"
    if met(item, "Ready"):
        return "Current"
    return "Failed" if met(item, "Stalled") else "InProgress"


def assert_all_agree(versions: Sequence[Json]) -> None:
    """Every version of one AgentDeployment means the same to everybody."""
    for item, said in zip(versions, kstatus(versions), strict=True):
        assert said == expected(item), item
        assert_consistent(item)
    for before, after in pairwise(versions):
        assert_times(before, after)


def assert_consistent(item: Json) -> None:
    """Reconciling and Stalled exist while True only, never both; what was seen is told truly."""
    found = conditions(item)
    status, generation = item.get("status", {}), item["metadata"]["generation"]
    assert status["observedGeneration"] <= generation, item
    if not found:
        return  # the operator has not seen it yet
    true = [name for name in ("Ready", "Reconciling", "Stalled") if name in found]
    assert [found[name]["status"] for name in true if name != "Ready"] in (["True"], []), item
    assert (found["Ready"]["status"] == "True") == (true == ["Ready"]), item
    seen = {condition["observedGeneration"] for condition in found.values()}
    assert seen == {status["observedGeneration"]}, item


def assert_times(before: Json, after: Json) -> None:
    """A transition time moves when, and only when, the condition's status does."""
    earlier, later = conditions(before), conditions(after)
    assert earlier.keys() - later.keys() <= {"Reconciling", "Stalled"}, after
    assert before["status"]["observedGeneration"] <= after["status"]["observedGeneration"], after
    for name in earlier.keys() & later.keys():
        old, new = earlier[name], later[name]
        if old["status"] == new["status"]:
            assert old["lastTransitionTime"] == new["lastTransitionTime"], (name, after)
        else:
            assert old["lastTransitionTime"] < new["lastTransitionTime"], (name, after)


def wait(story: Story, condition: str) -> Json:
    """What the agent is when a real `kubectl wait` goes on."""
    story.kubectl("wait", f"agentdep/{NAME}", f"--for=condition={condition}", "--timeout=60s")
    found: Json = json.loads(story.kubectl("get", "agentdep", NAME, "-o", "json"))
    return found


def test_kubectl_wait_and_kstatus_agree_on_every_version_of_both_stories(fragile: Lab) -> None:
    with Story.begin(fragile) as story:
        first = story.status["stableRevision"]
        story.change(GOOD)
        good = wait(story, "Ready")  # at once: it must not take the old revision's for this one's
        second = good["status"]["stableRevision"]
        assert second != first
        assert kstatus([good]) == ["Current"]
        story.change(BAD)
        bad = wait(story, "Stalled")
        assert bad["status"]["phase"] == "RolledBack"
        assert kstatus([bad]) == ["Failed"]
        story.change(GOOD)
        restored = wait(story, "Ready")
        assert restored["status"]["observedGeneration"] == 4
        assert restored["status"]["stableRevision"] == second
        assert kstatus([restored]) == ["Current"]
        story.change(FIRST)
        story.history.until("an attempt", lambda: story.status.get("progress"))
        story.kubectl("delete", "agentdep", NAME, "--timeout=60s")  # it has a finalizer now
        story.history.until("the deletion", lambda: story.agent.get("deleted"))

    versions = story.history.of_kind("AgentDeployment")
    assert_all_agree(versions)
    # … which says something, because every case was there: also the moments before the operator
    # had seen a spec, the first one's and each edit's.
    assert {*kstatus(versions)} == {"InProgress", "Current", "Failed", "Terminating"}
    unseen = [
        v for v in versions if v["status"]["observedGeneration"] != v["metadata"]["generation"]
    ]
    assert {v["metadata"]["generation"] for v in unseen} >= {1, 2, 3, 4}


def version(world: World, status: AgentDeploymentStatus) -> Json:
    """The world's agent as the API server would give it."""
    said = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "bot", "namespace": "team", "generation": world.generation},
        "status": said,
    }


def told(happenings: Happenings) -> list[Json]:
    """Every version of the agent's object in a history of evidence, pods, people, edits and crashes."""
    world = begin(happenings[0])
    versions = [version(world, world.status)]
    for happening in happenings[1]:
        survive = happen(world, happening)
        world.now += timedelta(seconds=1)
        versions.append(version(world, world.status))  # an edit that was not seen yet
        world.step(survive)
        versions.append(version(world, world.status))
    return versions


@settings(max_examples=100, deadline=None)
@given(HISTORIES)
def test_they_agree_whatever_happens(happenings: Happenings) -> None:
    assert_all_agree(told(happenings))
