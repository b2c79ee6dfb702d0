"""Labels that arrive after the attempt has ended well: reviewed accuracy, evaluation scores.

They come hours after the call, so a candidate may be proven worse than allowed when it is the
stable revision already. While the revision before it still runs, that is a rollback like any
other; afterwards it is told, and a person has to act.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import Revision
from phasegate.rollout.rollback import AFTERWARDS, complete, tripped
from phasegate.rollout.route import RollbackIntent, RoutePlan
from phasegate.rollout.workloads import previous_is_warm

LATE = timedelta(hours=72)
"""How long after an attempt's success labels are waited for; longer while the previous revision is warm."""


def labels_until(status: AgentDeploymentStatus) -> datetime | None:
    """Until when late labels count; None when no attempt has just succeeded."""
    gate = status.last_gate
    if status.progress is not None or gate is None or gate.decision != "Stable":
        return None
    return max(gate.at + LATE, status.previous_warm_until or gate.at)


def waits_for_labels(status: AgentDeploymentStatus, now: datetime) -> bool:
    """Whether late labels still count now."""
    until = labels_until(status)
    return until is not None and now < until and status.previous_revision is not None


def take_back_late(draft: Draft) -> bool:
    """Take the stable revision back if labels have proven it bad while the one before it runs."""
    status, judgement = draft.status, draft.seen.late
    intent = _interrupted(draft.seen.route.plan, status)
    if intent is not None and status.previous_revision is not None:
        _swap(draft, intent, status.previous_revision)
        return True
    failure = tripped(judgement)
    previous = _standby(draft)
    if failure is None or previous is None or status.stable_revision is None:
        return False
    trigger, message, since = failure
    intent = RollbackIntent(
        rollout=status.current_rollout or "",
        revision=status.stable_revision,
        phase=AFTERWARDS,
        trigger=trigger,
        message=f"labels that arrived after the rollout: {message}"[:1024],
        decided_at=draft.now,
        since=since,
    )
    _swap(draft, intent, previous.hash)
    return True


def _interrupted(plan: RoutePlan | None, status: AgentDeploymentStatus) -> RollbackIntent | None:
    """A late rollback whose route was written before a crash, and nothing else of it."""
    intent = plan.intent if plan is not None else None
    if intent is None or intent.rollout != status.current_rollout:
        return None
    return intent if intent.revision == status.stable_revision else None


def _standby(draft: Draft) -> Revision | None:
    """The revision before the stable one, if it is known and can take all users now."""
    status, seen = draft.status, draft.seen
    if labels_until(status) is None or not previous_is_warm(status, draft.now):
        return None
    workload = seen.workload(status.previous_revision, "live")
    if workload is None or workload.ready == 0:
        return None
    return seen.revisions.get(status.previous_revision or "")


def _swap(draft: Draft, intent: RollbackIntent, previous: str) -> None:
    """The revision before is the stable one again; the one that was keeps its slot until it is idle."""
    status = draft.status
    stored = draft.seen.revisions.get(previous)
    draft.update(
        stable_revision=previous,
        stable_digest=stored.digest if stored is not None else None,
        candidate_revision=status.stable_revision,
        candidate_digest=status.stable_digest,
        previous_revision=None,
        previous_warm_until=None,
        notices=(),
    )
    complete(draft, intent)
