"""The play: what each act changes, what is told meanwhile, and how it has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.demo.scene import Agent, Rollback, Users

MANIFESTS = Path(__file__).parent / "manifests"
NAMESPACE, AGENT = "demo", "support"
HOST = "support.example.com"
RPS = 60.0
"""Requests a second: few enough for two cores, enough to prove something in seconds."""
PATIENCE_S = 120.0
"""An act that takes longer than this has failed."""
SAFE_S = 2.0
"""From the decision to take a revision back to its last answer to a user, at most."""

_GOOD = {
    "dark": "Dark: every request is copied to the new revision. Users never see its answers.",
    "shadow": "Shadow: still only copies; reviewers may ask it with x-agent-variant: candidate.",
    "canary-5": "Canary: one user in twenty is answered by the new revision.",
    "canary-20": "The gate is passed: one user in five.",
    "canary-50": "The gate is passed: every second user.",
    "full": "Everybody. The old revision stays warm, one write away.",
}
_BAD = _GOOD | {
    "dark": "Dark: it answers copies of real requests now. Watch its errors: users see none of them.",
}
_SNEAKY = _GOOD | {
    "dark": "Dark: nothing wrong with it so far …",
    "shadow": "Shadow: nothing wrong with it here, either …",
    "canary-5": "Canary: one user in twenty. It has users now, and still all is well …",
    "canary-20": "One user in five. Watch the failed answers …",
}


@dataclass(frozen=True)
class Act:
    """One act: `change` is the file to patch the agent with, `name` what its revision is called."""

    title: str
    name: str
    change: str
    opening: str
    ending: str
    end: Literal["Stable", "RolledBack"]
    captions: Mapping[str, str]
    trigger: str = ""
    """The check that has to take it back."""
    only_in: tuple[str, ...] = ()
    """Phases in which it may be taken back; any if none."""


ACTS = (
    Act(
        title="the good one",
        name="v2",
        change="good.yaml",
        opening="Somebody writes a better prompt. Nothing else changes; it is a revision all the same.",
        ending="It has proven itself phase by phase, and serves everybody now.",
        end="Stable",
        captions=_GOOD,
    ),
    Act(
        title="the bad one",
        name="v3",
        change="bad.yaml",
        opening="Another prompt, and four answers of ten will fail. Nobody knows that yet.",
        ending="Caught in the dark, on copies of real requests: no user has seen one answer of it.",
        end="RolledBack",
        captions=_BAD,
        trigger="error-rate",
        only_in=("dark",),
    ),
    Act(
        title="the sneaky one",
        name="v4",
        change="sneaky.yaml",
        opening="This prompt is fine at first. It will turn bad when it already has users.",
        ending="One write took the traffic back, and the old revision had stayed warm.",
        end="RolledBack",
        captions=_SNEAKY,
        trigger="error-rate",
    ),
)


def ended(agent: Agent, revision: str | None) -> bool:
    """Whether the agent has come to rest after `revision` was tried, well or not."""
    if revision is None or agent.running is not None or agent.observed < agent.generation:
        return False
    if agent.rollback is not None and agent.rollback.revision == revision:
        return agent.rollback.seconds_to_safe is not None and agent.phase == "RolledBack"
    return agent.stable == revision and agent.ready


def problems(
    act: Act, before: str | None, agent: Agent, record: Mapping[str, Any], users: Users
) -> list[str]:
    """What is not as the act must end, as sentences; none if all is well.

    Args:
        act: the act.
        before: the revision that was stable when it began.
        agent: the AgentDeployment, read afresh from the API server.
        record: the AgentRollout of the attempt, read afresh.
        users: what users got, some seconds later.
    """
    revision = record.get("spec", {}).get("revision")
    status = record.get("status", {})
    found = []
    if act.end == "Stable":
        found += _expect("the stable revision", agent.stable, revision)
        found += _expect("its share of the users", agent.percent(revision), 100)
        found += _expect("Ready", agent.ready, True)
        found += _expect("the attempt's record", status.get("phase"), "Succeeded")
        return found
    found += _expect("the stable revision", agent.stable, before)
    found += _expect("the users' share of the bad revision", agent.percent(revision), 0)
    found += _expect("the attempt's record", status.get("phase"), "RolledBack")
    rollback = agent.rollback
    if rollback is None or rollback.revision != revision:
        return [*found, f"the status names no rollback of {revision}"]
    found += _expect("the trigger", rollback.trigger, act.trigger)
    found += _expect(
        "the record's trigger", (status.get("incident") or {}).get("trigger"), act.trigger
    )
    if act.only_in and rollback.phase not in act.only_in:
        found.append(f"it was taken back in {rollback.phase}, not in {' or '.join(act.only_in)}")
    late = lateness(rollback, users)
    if late is not None and late > SAFE_S:
        found.append(f"it answered a user {late:.1f} s after it was taken back")
    return found


def lateness(rollback: Rollback, users: Users) -> float | None:
    """Seconds from the decision to the last answer that users got from the revision; None of none."""
    last = users.last_done.get(rollback.revision)
    return None if last is None else last - rollback.decided.timestamp()


def _expect(what: str, is_: object, should_be: object) -> list[str]:
    return [] if is_ == should_be else [f"{what} is {is_!r}, not {should_be!r}"]
