"""What a status may say and when: the truth while a write fails, and which changes can wait."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.base import Condition, ConditionStatus
from phasegate.rollout.decision import Decision
from phasegate.rollout.observed import Observed
from phasegate.rollout.reasons import Reason

_NUMBERS = re.compile(r"(?:[0-9][0-9.,:]*[a-z%]{0,2})+")
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
        percent = current.percent(intent.revision) if current is not None else 0
        what = (
            f"rollback of {intent.revision} decided {seconds} s ago ({intent.trigger}), "
            f"route still at {percent}%"
        )
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


def only_numbers_differ(before: AgentDeploymentStatus, after: AgentDeploymentStatus) -> bool:
    """True when a reader learns nothing but newer numbers: such a write can wait a little."""
    return _essence(before) == _essence(after)


def _transition(before: Condition | None, value: ConditionStatus, now: datetime) -> datetime:
    same = before is not None and before.status == value
    return before.last_transition_time if before is not None and same else now


def _essence(status: AgentDeploymentStatus) -> dict[str, Any]:
    essence = status.model_dump(exclude={"next_decision_at"})
    essence["message"] = _words(status.message)
    essence["traffic"] = [share.model_dump(exclude={"measured"}) for share in status.traffic]
    essence["checks"] = [
        (check.name, check.level, check.verdict, check.reason, _words(check.message))
        for check in status.checks
    ]
    essence["notices"] = [
        (notice.kind, notice.check, notice.since, _words(notice.message))
        for notice in status.notices
    ]
    essence["conditions"] = [
        {**condition.model_dump(), "message": _words(condition.message)}
        for condition in status.conditions
    ]
    return essence


def _words(message: str) -> str:
    """A sentence without its numbers."""
    return _NUMBERS.sub("#", message)
