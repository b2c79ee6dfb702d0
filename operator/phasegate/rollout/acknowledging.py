"""Verb Acknowledge: somebody has seen it. Nothing else changes."""

from __future__ import annotations

from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.refusals import Expired, Refusal


def acknowledge(draft: Draft, action: ActionSeen) -> str:
    """About the notices of a check that stand, or about the incident that the agent is in."""
    return _incident(draft, action) if action.spec.about is None else _notices(draft, action)


def _incident(draft: Draft, action: ActionSeen) -> str:
    rollback = draft.status.rollback
    if rollback is None:
        raise Expired("there is no incident now")
    if action.spec.revision not in (rollback.revision, rollback.digest):
        raise Refusal(f"the incident is about revision {rollback.revision}")
    if rollback.acknowledged_by is not None:
        return f"{rollback.acknowledged_by} has acknowledged it already"
    seen = {"acknowledged_by": action.spec.actor, "acknowledged_at": draft.now}
    draft.update(rollback=rollback.model_copy(update=seen))
    return f"the rollback of {rollback.revision} is acknowledged"


def _notices(draft: Draft, action: ActionSeen) -> str:
    status, about = draft.status, action.spec.about
    shown = (
        (status.candidate_revision, status.candidate_digest)
        if status.progress is not None
        else (status.stable_revision, status.stable_digest)
    )
    if action.spec.revision not in shown:
        raise Expired(f"what is said now is about revision {shown[0]}")
    found = [notice for notice in status.notices if notice.check == about]
    if not found:
        others = ", ".join(dict.fromkeys(notice.check for notice in status.notices))
        raise Expired(f"nothing is said of {about} now" + (f", but of {others}" if others else ""))
    first = next((n.acknowledged_by for n in found if n.acknowledged_by is not None), None)
    if all(notice.acknowledged_by is not None for notice in found):
        return f"{first} has acknowledged it already"
    seen = {"acknowledged_by": action.spec.actor, "acknowledged_at": draft.now}
    notices = tuple(
        n.model_copy(update=seen) if n.check == about and n.acknowledged_by is None else n
        for n in status.notices
    )
    draft.update(notices=notices)
    return f"{about} is acknowledged"
