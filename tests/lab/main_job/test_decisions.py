"""Decisions that do not count, and what does instead: real users, real RBAC, one agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lab import Lab
from tests.lab.main_job.cluster import Api, Refusal, until
from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, FULL
from tests.lab.main_job.story import Story, condition_of, says, shares
from tests.lab.main_job.test_people import bind, given

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

NEWEST = {"approver": "promote", "agent-lead": "override", "rollback-owner": "killswitch"}
"""A verb of each role, to wait for."""


@contextmanager
def people(story: Story, lab: Lab, **roles: str) -> Iterator[dict[str, Api]]:
    """Users of the lab, each with a shipped role, once that counts."""
    with ExitStack() as stack:
        found = {}
        for person, role in roles.items():
            bind(story, person, "ClusterRole", f"phasegate-{role}")
            api = stack.enter_context(Api.of(lab, person)).within(story.api.namespace)
            found[person] = given(api, NEWEST[role])
        yield found


def answer(story: Story, verb: str, revision: str, api: Api, actor: str, **spec: object) -> str:
    """Outcome and message of one person's decision."""
    action = story.act(verb, revision, api=api, actor=actor, **spec)
    told = story.outcome(action)
    return f"{told['outcome']}: {told['message']}"


def test_two_people_decide_and_nobody_forges_skips_or_repeats_it(story: Story, lab: Lab) -> None:
    asked = {**FULL, "approval": "Required", "approvals": {"count": 2, "author": "MayNot"}}
    old = story.stable(CANARY, asked, author="carol")
    story.users()
    story.prompt(BETTER_PROMPT)
    waiting = story.until("awaits", lambda v: says(v, "AwaitingApproval") == "True")
    new = waiting["status"]["candidateRevision"]
    message = condition_of(waiting, "AwaitingApproval")["message"]
    assert "full needs 2 approvals: 0 of 2; missing: 2 more, not carol, who wrote" in message
    roles = {"alice": "approver", "bob": "approver", "carol": "approver"}
    with people(story, lab, **roles) as person:
        alice, bob, carol = (person[name] for name in ("alice", "bob", "carol"))
        with pytest.raises(Refusal, match="nobody decides in the name of another"):
            story.act("Approve", new, api=carol, actor="alice")
        with pytest.raises(Refusal, match="you may not override"):
            story.act(
                "Override",
                new,
                api=alice,
                actor="alice",
                overrides=["Calendar"],
                reason="it cannot wait until Monday",
            )
        own = answer(story, "Approve", new, carol, "carol")
        assert own.startswith("Refused: you wrote this revision: full must be approved by somebody")
        older = answer(story, "Approve", old, bob, "bob")
        assert older.startswith(f"Expired: this is about revision {old}, but {new} is being")
        over = answer(story, "Approve", new, bob, "bob", phase=CANARY["name"])
        assert over.startswith("Expired: this is about canary-40, which has begun or is over")
        evidence = [{"url": "https://example.com/review/1", "digest": "sha256:" + "0" * 64}]
        first = answer(story, "Approve", new, bob, "bob", phase="full", evidence=evidence)
        assert first == "Accepted: full: 1 of 2; missing: 1 more"
        again = answer(story, "Promote", new, bob, "bob")
        assert again == "Accepted: full was already approved by bob"
        held = story.until("1 of 2", lambda v: "1 of 2 (bob)" in v["status"]["message"])
        assert shares(held) == {old: 60, new: 40}
        last = answer(story, "Promote", new, alice, "alice")
        assert last == "Accepted: full is approved"
    story.until("stable", lambda v: v["status"]["stableRevision"] == new)
    gates = story.rollout(1, "Succeeded")["status"]["gates"]
    assert [(g["toPhase"], g["by"]) for g in gates if "by" in g] == [
        ("canary-40", "carol"),
        ("full", "bob, alice"),
    ]


def test_a_lead_goes_past_the_calendar_and_approves_nothing(story: Story, lab: Lab) -> None:
    story.stable({**FULL, "approval": "Required"}, author="carol")
    story.prompt(BETTER_PROMPT)
    waiting = story.until("awaits", lambda v: says(v, "AwaitingApproval") == "True")
    new = waiting["status"]["candidateRevision"]
    with people(story, lab, alice="agent-lead") as person:
        alice, reason = person["alice"], "customers cannot log in without it"
        past = {"overrides": ["Calendar"], "reason": reason}
        told = answer(story, "Override", new, alice, "alice", **past)
        assert told.startswith("Accepted: Calendar overridden for full")
        with pytest.raises(Refusal, match="at least 20 characters"):
            story.act("Override", new, api=alice, actor="alice", **{**past, "reason": "urgent"})
        with pytest.raises(Refusal, match="you may not approve"):
            story.act("Approve", new, api=alice, actor="alice")
        with pytest.raises(Refusal, match="you may not promote"):
            story.act("Promote", new, api=alice, actor="alice")
    (kept,) = until(
        "it is kept",
        lambda: story.api.get("agentdeployments", "support")["status"].get("overrides"),
    )
    assert (kept["by"], kept["reason"], kept["phase"]) == ("alice", reason, "full")


def test_only_the_owner_resumes_what_a_kill_switch_has_stopped(story: Story, lab: Lab) -> None:
    stable = story.stable(FULL, owner={"rollbackOwner": "bob"})
    with people(story, lab, alice="rollback-owner", bob="rollback-owner") as person:
        stopped = answer(story, "KillSwitch", stable, person["alice"], "alice")
        assert stopped.startswith("Accepted: ")
        refused = answer(story, "Resume", stable, person["alice"], "alice")
        assert refused.startswith("Refused: after a KillSwitch only spec.owner.rollbackOwner")
        version = story.api.get("agentdeployments", "support")
        assert version["status"]["deactivated"]["by"] == "alice"
        assert answer(story, "Resume", stable, person["bob"], "bob").startswith("Accepted: ")
    story.ready()
