"""What people see with kubectl."""

from __future__ import annotations

import re

import pytest

from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, FULL, NAME, longer
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def kubectl(story: Story, *arguments: str) -> str:
    return story.lab.kubectl(*arguments, "-n", story.api.namespace)


def row(text: str) -> dict[str, str]:
    """The only row of a table of kubectl by column, empty columns left out."""
    header, line = text.splitlines()
    columns = list(re.finditer(r"\S+", header))
    ends = [column.start() for column in columns[1:]] + [len(line)]
    cells = {
        column[0]: line[column.start() : end].strip()
        for column, end in zip(columns, ends, strict=True)
    }
    return {name: cell for name, cell in cells.items() if cell}


def test_get_tells_the_story_in_one_line(story: Story) -> None:
    old = story.stable(longer(CANARY), FULL)
    calm = row(kubectl(story, "get", "agentdep", NAME))
    assert calm["PHASE"] == "Stable"
    assert (calm["STABLE"], calm["READY"]) == (old, "True")
    assert old in calm["MESSAGE"]
    story.users(30)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]
    busy = row(kubectl(story, "get", "agentdep"))
    message, age = busy.pop("MESSAGE"), busy.pop("AGE")
    assert busy == {
        "NAME": NAME,
        "PHASE": "Canary",
        "STEP": "canary-40 1/2",
        "STABLE": old,
        "CANDIDATE": new,
        "WEIGHT": "40",
        "READY": "False",
    }
    assert message.startswith("canary-40: ")
    assert age


def test_wait_for_ready_returns_when_it_serves(story: Story) -> None:
    story.create()
    words = kubectl(story, "wait", "--for=condition=Ready", f"agentdep/{NAME}", "--timeout=60s")
    assert "condition met" in words
    assert story.ask().status_code == 200


def test_get_of_the_category_lists_every_kind(story: Story) -> None:
    story.stable(longer(CANARY), FULL)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40", started=False)["status"]["candidateRevision"]
    story.outcome(story.act("Pause", new))
    words = kubectl(story, "get", "phasegate", "-o", "name")
    for kind in ("agentdeployment", "agentrollout", "rollbackpolicy", "rolloutaction"):
        assert f"{kind}.phasegate.dev/" in words


def test_describe_shows_split_checks_conditions_and_events(story: Story) -> None:
    old = story.stable(longer(CANARY), FULL)
    story.users()
    story.prompt(BETTER_PROMPT)
    story.in_phase("canary-40")
    story.until("a measured share", lambda v: "measured" in v["status"]["traffic"][1])
    story.event("RolloutStarted")
    words = kubectl(story, "describe", "agentdep", NAME)
    for part in ("Next Decision At", "Measured", "Verdict", "RolloutStarted"):
        assert part in words
    assert re.search(rf"Stable Revision: +{old}", words)


def test_scale_goes_through_the_scale_subresource(story: Story) -> None:
    story.stable()
    kubectl(story, "scale", "agentdep", NAME, "--replicas=2")
    version = story.until("two pods", lambda v: v["status"].get("readyReplicas") == 2)
    assert version["spec"]["replicas"] == 2
