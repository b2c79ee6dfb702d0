"""Reviews that come when the phase they are about has ended, from a reviewer that outlives pods."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.judgement.faults import address_of
from tests.lab.main_job.cluster import Json
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    DARK,
    FULL,
    NAME,
    container,
    longer,
    template,
)
from tests.lab.main_job.story import Story, Users, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

REVIEW = """
import json, sys, time, urllib.request
while True:
    for review in json.loads(sys.argv[2]):
        request = urllib.request.Request(sys.argv[1] + "/reviews", json.dumps(review).encode())
        urllib.request.urlopen(request, timeout=5).read()
    time.sleep(0.05)
"""


@pytest.fixture
def reviewed(story: Story) -> Story:
    """An agent whose answers are reviewed by people, who write into a pod of its own."""
    accuracy = {"name": "accuracy", "rollback": {"below": "70%"}, "minSamples": 20}
    errors = {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "20%"}}
    story.create_policy(metrics=[errors, accuracy])
    command = [sys.executable, "-m", "lab.agent.evaluator"]
    metadata = {"name": "evaluator", "labels": {"phasegate.dev/evaluates": NAME}}
    pod = {"metadata": metadata, "spec": {"containers": [container({}, command=command)]}}
    story.api.create("pods", pod)
    address_of(story.api, "evaluator")
    return story


def begin(story: Story, *phases: Json) -> tuple[str, Users]:
    """The stable revision and its users; the agent counts no reviews of its own."""
    env = {"AGENT_EVALUATOR_URL": address_of(story.api, "evaluator"), "AGENT_EVAL_SHARE": "0"}
    return story.stable(*phases, template=template(container(env))), story.users(60)


@contextmanager
def reviews(story: Story, stable: str, candidate: str, mode: str, *, good: bool) -> Iterator[None]:
    """People review some twenty answers a second of each revision; the stable one's are right.

    `mode`: where the candidate gave the answers that they look at.
    """
    right = {"passed": True, "score": 4.5, "made_up": False}
    wrong = {"passed": False, "score": 1.5, "made_up": False}
    whose = [
        {"revision": stable, "mode": "live", **right},
        {"revision": candidate, "mode": mode, **(right if good else wrong)},
    ]
    argv = ["python", "-c", REVIEW, address_of(story.api, "evaluator"), json.dumps(whose)]
    with subprocess.Popen(story.lab.command(argv)) as process:
        try:
            yield
        finally:
            process.kill()


def assert_all_go_to(old: str, story: Story, users: Users, rollback: Json) -> None:
    assert shares(story.watch.seen[-1])[old] == 100
    safe = seconds(rollback["safeAt"])
    got = users.go_on_past(safe + 2)
    assert {a.revision for a in got if a.sent > safe} == {old}


def test_answers_of_dark_that_are_found_wrong_during_canary_take_it_back(reviewed: Story) -> None:
    old, users = begin(reviewed, DARK, longer(CANARY), FULL)
    reviewed.prompt(BETTER_PROMPT)
    new = reviewed.in_phase("dark")["status"]["candidateRevision"]
    with reviews(reviewed, old, new, "dark", good=True):
        reviewed.in_phase("canary-40")
    with reviews(reviewed, old, new, "dark", good=False):  # the hard ones, hours later
        rollback = reviewed.rolled_back()["status"]["rollback"]
    assert (rollback["trigger"], rollback["phase"]) == ("accuracy", "canary-40")
    assert "is below" in rollback["message"]
    assert_all_go_to(old, reviewed, users, rollback)


def test_answers_found_wrong_after_the_rollout_bring_the_old_revision_back(
    reviewed: Story,
) -> None:
    old, users = begin(reviewed, {**CANARY, "minDuration": "2s"}, FULL)
    reviewed.prompt(BETTER_PROMPT)
    new = reviewed.in_phase("canary-40")["status"]["candidateRevision"]
    with reviews(reviewed, old, new, "live", good=True):
        reviewed.until("it is over", lambda v: v["status"].get("stableRevision") == new)
    with reviews(reviewed, old, new, "live", good=False):
        rollback = reviewed.rolled_back()["status"]["rollback"]
    assert (rollback["trigger"], rollback["to"]) == ("accuracy", old)
    assert "after the rollout" in rollback["message"]
    assert_all_go_to(old, reviewed, users, rollback)
