"""What a status may say and when: the truth while a write fails, and which changes can wait."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.base import Condition, ConditionStatus
from phasegate.api.records import Told
from phasegate.rollout.decision import Announcement, Decision
from phasegate.rollout.observed import Observed
from phasegate.rollout.reasons import Reason

LATELY = timedelta(minutes=10)
"""How long a status keeps what was announced; a new process tells it again, and no other tells it twice."""
KEPT = 16
"""Announcements that a status keeps at most."""

_NUMBERS = re.compile(r"(?:[0-9][0-9.,:]*[a-z%]{0,2})+")
_UNDECIDED = frozenset({Reason.COLLECTING_EVIDENCE, Reason.HELD_BY_EVIDENCE})
_IN_DOUBT = frozenset({"Ready", "Reconciling", "Stalled", "TrafficProgrammed"})


def not_routed(
    seen: Observed, decision: Decision, error: Exception, since: datetime, now: datetime
) -> AgentDeploymentStatus:
    """The status while the route cannot be written: nothing has changed, and what was decided.

    `since` is when the write was first tried. Nothing of the decision is told as done.
    """
    seconds = max(0, round((now - since).total_seconds()))
    plan, current = decision.route, seen.route.plan
    intent = plan.intent if plan is not None else None
    if intent is not None:
        share = "its share of the users is not known"
        if current is not None:
            share = f"route still at {current.percent(intent.revision)}%"
        what = f"rollback of {intent.revision} decided {seconds} s ago ({intent.trigger}), {share}"
    elif plan is not None and plan.off is not None:
        what = f"deactivation by {plan.off.by} decided {seconds} s ago, the route does not say so"
    else:
        what = f"the route could not be written for {seconds} s"
    message = f"{what}: {error}"[:2048]
    told: tuple[tuple[str, ConditionStatus], ...] = (
        ("Ready", "False"),
        ("Reconciling", "True"),
        ("TrafficProgrammed", "False"),
    )
    before = {condition.type: condition for condition in seen.status.conditions}
    kept = tuple(c for c in seen.status.conditions if c.type not in _IN_DOUBT)
    doubts = tuple(
        Condition(
            type=name,
            status=value,
            reason=Reason.NOT_PROGRAMMED,
            message=message,
            observed_generation=seen.meta.generation,
            last_transition_time=_transition(before.get(name), value, now),
        )
        for name, value in told
    )
    return seen.status.model_copy(update={"message": message, "conditions": (*doubts, *kept)})


def announced(
    before: tuple[Told, ...], news: Iterable[Announcement], now: datetime
) -> tuple[Told, ...]:
    """What a status keeps of its announcements, `news` included; unchanged while there are none.

    They are in the write that makes them true. An Event is written after it, and its name follows
    from its words: whoever finds them in the status may write it again.
    """
    told = [one.told(now) for one in news]
    if not told:
        return before
    return (*(t for t in before if now - t.at < LATELY), *told)[-KEPT:]


class Change(Enum):
    """What a reader of a new status learns."""

    NUMBERS = auto()
    """Newer numbers: to tell them can wait."""
    VERDICTS = auto()
    """How far the checks of a gate are that has not decided: that can wait a little."""
    NEWS = auto()
    """Anything else."""


def change(before: AgentDeploymentStatus, after: AgentDeploymentStatus) -> Change:
    """The most that a reader learns from `after` who knows `before`."""
    known, told = _essence(before), _essence(after)
    if known == told:
        return Change.NUMBERS
    if _news(before, known) != _news(after, told) or (_holds(after) and not _holds(before)):
        return Change.NEWS
    return Change.VERDICTS


def _transition(before: Condition | None, value: ConditionStatus, now: datetime) -> datetime:
    same = before is not None and before.status == value
    return before.last_transition_time if before is not None and same else now


def _essence(status: AgentDeploymentStatus) -> dict[str, Any]:
    essence = status.model_dump(exclude={"next_decision_at", "record"})
    essence["message"] = _words(status.message)
    essence["traffic"] = [share.model_dump(exclude={"measured"}) for share in status.traffic]
    essence["checks"] = [
        (check.name, check.level, check.verdict, check.reason, _words(check.message))
        for check in status.checks
    ]
    essence["notices"] = [
        (n.kind, n.check, n.since, n.quiet_since is not None, _words(n.message))
        for n in status.notices
    ]
    essence["conditions"] = [
        {**condition.model_dump(), "message": _words(condition.message)}
        for condition in status.conditions
    ]
    return essence


def _news(status: AgentDeploymentStatus, essence: dict[str, Any]) -> dict[str, Any]:
    """What has to be told at once, of the essence of a status.

    While a gate collects evidence, its checks are what is in sentences.
    """
    undecided = any(c.reason in _UNDECIDED for c in status.conditions)
    return essence | {
        "message": "" if undecided else essence["message"],
        "checks": [(c.name, c.verdict == "Fail") for c in status.checks],
        "conditions": [
            c | {"reason": "", "message": ""} if c["reason"] in _UNDECIDED else c
            for c in essence["conditions"]
        ],
    }


def _holds(status: AgentDeploymentStatus) -> bool:
    """True when the evidence itself says no for now, and not only that there is too little of it."""
    return any(c.reason == Reason.HELD_BY_EVIDENCE for c in status.conditions)


def _words(message: str) -> str:
    """A sentence without its numbers."""
    return _NUMBERS.sub("#", message)
