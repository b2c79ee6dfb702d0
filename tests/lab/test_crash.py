"""The operator may be killed at any moment: both stories end as if it had not been."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from random import Random

import pytest

from lab import Lab
from tests.lab.history import Json
from tests.lab.outcome import (
    advanced,
    assert_never_above_its_step,
    assert_records_only_grow,
    outcome,
    shares,
)
from tests.lab.story import BAD, GOOD, NAME, STEPS, Story
from tests.lab.test_kstatus import assert_all_agree

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

ROLE = ("clusterrole", "phasegate-operator")
Moment = tuple[str, Callable[[], object]]


def kill_and_start(lab: Lab) -> None:
    """SIGKILL, and a new process at once; its predecessor's lease would only make it wait."""
    lab.part("kill", "operator")
    lab.kubectl("delete", "lease", "phasegate", "-n", "phasegate-system", "--ignore-not-found")
    lab.part("start", "operator")


def starts(lab: Lab) -> int:
    """How often the operator was started."""
    (part,) = [part for part in lab.status()["parts"] if part["part"] == "operator"]
    return int(part["starts"])


def writes(story: Story, numbers: Iterable[int]) -> list[Moment]:
    """The moments right after so many more writes to agent, route and record."""
    told = len(story.history)
    return [
        (f"{n} writes", lambda n=n: len(story.history) >= told + n)  # type: ignore[misc]
        for n in sorted(numbers)
    ]


def kill_at(story: Story, moments: Iterable[Moment]) -> None:
    """Kill the operator at each of these moments of the story."""
    for name, moment in moments:
        story.history.until(name, moment)
        kill_and_start(story.lab)


def started(story: Story, phase: str) -> bool:
    """Whether this phase's traffic is in place."""
    progress = story.status.get("progress") or {}
    return bool(progress.get("startedAt") and progress["phase"]["name"] == phase)


def intent(story: Story) -> Json:
    """The rollback that the route carries."""
    annotations = story.route["metadata"].get("annotations", {})
    found: Json = json.loads(annotations.get("phasegate.dev/rollback", "{}"))
    return found


def attempts(story: Story) -> dict[str, str]:
    """The phases of the attempts' records."""
    records = story.history.of_kind("AgentRollout")
    return {r["metadata"]["name"]: r.get("status", {}).get("phase", "") for r in records}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@contextmanager
def without(lab: Lab, part: str) -> Iterator[None]:
    """The lab without one of its parts."""
    lab.part("stop", part)
    try:
        yield
    finally:
        lab.part("start", part)


def rights(lab: Lab) -> list[Json]:
    """What the operator may do."""
    found: list[Json] = json.loads(lab.kubectl("get", *ROLE, "-o", "json"))["rules"]
    return found


@contextmanager
def without_status_writes(lab: Lab, rules: list[Json]) -> Iterator[None]:
    """The operator may not write the status of agents: everything it wants to do after that waits."""
    fewer = [
        {**rule, "resources": [r for r in rule["resources"] if r != "agentdeployments/status"]}
        for rule in rules
    ]
    lab.kubectl("patch", *ROLE, "--type=merge", "-p", json.dumps({"rules": fewer}))
    try:
        yield
    finally:
        lab.kubectl("patch", *ROLE, "--type=merge", "-p", json.dumps({"rules": rules}))


def assert_ends(story: Story, expected: Json) -> None:
    """The story comes to this end."""
    pause = threading.Event()
    for _ in range(200):
        if outcome(story) == expected:
            return
        pause.wait(0.3)
    assert outcome(story) == expected


def assert_safe_and_consistent(story: Story) -> None:
    """What must hold on the way, however often the operator was killed."""
    assert_never_above_its_step(story.history)
    assert_records_only_grow(story.history)
    assert_all_agree(story.history.of_kind("AgentDeployment"))


def rolled_back(stable: str, bad: str) -> Json:
    """The end of a bad story: stable serves alone, the bad one is remembered and not running."""
    last, entered = STEPS[1], advanced(2)
    told = ("True", "RolledBack")
    return {
        "phase": "RolledBack",
        "stable": stable,
        "candidate": None,
        "running": None,
        "rollback": {"revision": bad, "to": stable, "phase": last, "trigger": "error-rate"},
        "rejected": [bad],
        "conditions": {
            "Ready": ("False", "RolledBack"),
            "Stalled": told,
            "Progressing": ("False", "RolledBack"),
            "TrafficProgrammed": ("True", "Programmed"),
            "AwaitingApproval": ("False", "NotAwaitingApproval"),
            "EarlyWarning": ("False", "NothingWorsens"),
            "RolledBack": told,
        },
        "finalizers": [],
        "shares": {stable: 1.0},
        "mirrors": [],
        "serves": stable,
        "attempts": {f"{NAME}-1": ("RolledBack", [*entered, ("RolledBack", last, "stable")])},
        "deployments": {f"{NAME}-{stable}": 1},
        "services": [NAME, f"{NAME}-{stable}"],
        "revisions": sorted([f"{NAME}-{stable}", f"{NAME}-{bad}"]),
    }


def promoted(first: str, second: str) -> Json:
    """The end of a good story: the new one serves, the old one is warm."""
    return {
        "phase": "Stable",
        "stable": second,
        "candidate": None,
        "running": None,
        "rollback": None,
        "rejected": [],
        "conditions": {
            "Ready": ("True", "Stable"),
            "Progressing": ("False", "Stable"),
            "TrafficProgrammed": ("True", "Programmed"),
            "AwaitingApproval": ("False", "NotAwaitingApproval"),
            "EarlyWarning": ("False", "NothingWorsens"),
            "RolledBack": ("False", "NotRolledBack"),
        },
        "finalizers": [],
        "shares": {first: 0.0, second: 1.0},
        "mirrors": [],
        "serves": second,
        "attempts": {f"{NAME}-1": ("Succeeded", [*advanced(4), ("Stable", "full", "stable")])},
        "deployments": {f"{NAME}-{first}": 1, f"{NAME}-{second}": 1},
        "services": sorted([NAME, f"{NAME}-{first}", f"{NAME}-{second}"]),
        "revisions": sorted([f"{NAME}-{first}", f"{NAME}-{second}"]),
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_a_good_story_ends_well_with_kills_at_any_moments(fragile: Lab, seed: int) -> None:
    with Story.begin(fragile) as story:
        first, before = story.status["stableRevision"], starts(fragile)
        moments = writes(story, Random(seed).sample(range(1, 36), 4))
        story.change(GOOD)
        kill_at(story, moments)
        story.history.until("the new one is stable", lambda: story.settled("Stable"))
        assert starts(fragile) == before + 4
        assert_ends(story, promoted(first, story.status["stableRevision"]))
        assert_safe_and_consistent(story)


@pytest.mark.parametrize("seed", [1])
def test_a_bad_story_ends_well_with_kills_around_the_rollback(fragile: Lab, seed: int) -> None:
    with Story.begin(fragile) as story:
        first = story.status["stableRevision"]
        moments = writes(story, Random(seed).sample(range(1, 16), 2))
        story.change(BAD)
        kill_at(story, moments)
        bad = story.status["candidateRevision"]
        kill_at(
            story,
            (
                ("users meet it", lambda: shares(story.route).get(bad, 0) == 0.2),
                ("traffic goes back", lambda: intent(story)),
                ("the status says so", lambda: story.settled("RolledBack")),
            ),
        )
        assert_ends(story, rolled_back(first, bad))
        assert_safe_and_consistent(story)


def test_a_rollback_whose_status_was_never_written_is_completed_from_the_route(
    fragile: Lab,
) -> None:
    with Story.begin(fragile, canary="60s") as story:
        first = story.status["stableRevision"]
        rules = rights(fragile)
        story.change(BAD)
        story.history.until("users meet it", lambda: started(story, "canary-20"))
        with without_status_writes(fragile, rules):  # long before there is enough evidence
            decided = story.history.until("traffic goes back", lambda: intent(story))
            fragile.part("kill", "operator")
        stored = story.objects("agentdep")[0]["status"]
        assert stored["phase"] == "Canary"
        assert "rollback" not in stored
        with without(fragile, "prometheus"):  # nobody can judge anew what was judged
            kill_and_start(fragile)
            story.history.until("the rollback", lambda: story.settled("RolledBack"))
            rollback = story.status["rollback"]
            told = {key: rollback[key] for key in ("rollout", "revision", "trigger", "message")}
            assert told == {key: decided[key] for key in told}
            assert moment(rollback["decidedAt"]) == moment(decided["decidedAt"])
            assert shares(story.route) == {first: 1.0, decided["revision"]: 0.0}
            story.history.until(
                "the record", lambda: attempts(story) == {f"{NAME}-1": "RolledBack"}
            )
            assert_safe_and_consistent(story)
