"""Labels that arrive after the attempt has ended well: reviewed accuracy, evaluation scores.

They come hours after the call, so a candidate may be proven worse than allowed when it is the
stable revision already. While the revision before it still runs, that is a rollback like any
other; afterwards it is told, and a person has to act.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.rollout.draft import Draft, one_line
from phasegate.rollout.observed import Revision
from phasegate.rollout.refusals import Refusal
from phasegate.rollout.rollback import AFTERWARDS, complete, tripped
from phasegate.rollout.route import RollbackIntent, RoutePlan
from phasegate.rollout.workloads import previous_is_warm

LATE = timedelta(hours=72)
"""How long after an attempt's success labels are waited for; longer while the previous revision is warm."""
SLOT_PATIENCE = timedelta(seconds=30)
"""How long a gateway may take to confirm the slot of the previous revision before users go there anyway."""


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
    if failure is None or status.stable_revision is None:
        return False
    previous = _standby(draft)
    if previous is None:
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


def take_back_stable(draft: Draft, reason: str, by: str) -> str:
    """A person takes the stable revision back; what was done.

    Nobody's evidence is needed, ready pods are. Raises Refusal with what to do instead.
    """
    status = draft.status
    stable, previous = status.stable_revision, status.previous_revision
    if status.deactivated is not None:
        raise Refusal("the agent is deactivated, no user meets this revision: Resume it first")
    decided = _interrupted(draft.seen.route.plan, status)
    if stable is None or previous is None or not (decided or returning(draft)):
        raise Refusal(
            f"{stable} serves all users and no revision before it is kept warm: to go back restore "
            "its spec, which rolls it out again, or take all users off with verb KillSwitch"
        )
    if decided is None and (problem := lacking(draft)) is not None:
        raise Refusal(f"users cannot go back to {previous} now: {problem}; try again when it can")
    intent = decided or RollbackIntent(
        rollout=status.current_rollout or "",
        revision=stable,
        phase=AFTERWARDS,
        trigger="Rollback",
        message=one_line(reason)[:1024],
        decided_at=draft.now,
        by=by,
    )
    _swap(draft, intent, previous)
    return f"traffic is taken from {stable}: {previous} serves the users again"


def users_and_other(
    status: AgentDeploymentStatus, plan: RoutePlan | None
) -> tuple[str | None, str | None]:
    """Whose the users are and who stands beside; after a half-done late rollback the route knows better."""
    if status.previous_revision is not None and _interrupted(plan, status) is not None:
        return status.previous_revision, status.stable_revision
    return status.stable_revision, status.candidate_revision


def _interrupted(plan: RoutePlan | None, status: AgentDeploymentStatus) -> RollbackIntent | None:
    """A late rollback whose route was written before a crash, and nothing else of it."""
    intent = plan.intent if plan is not None else None
    if intent is None or intent.rollout != status.current_rollout:
        return None
    return intent if intent.revision == status.stable_revision else None


def returning(draft: Draft) -> bool:
    """True while users could still go back to the revision before the stable one."""
    status = draft.status
    return labels_until(status) is not None and previous_is_warm(status, draft.now)


def lacking(draft: Draft) -> str | None:
    """What keeps the warm previous revision from taking all users now; None if nothing does.

    It needs as many ready pods as serve users now, and a slot: a backendRef that appears together
    with its weight costs requests.
    """
    seen, status = draft.seen, draft.status
    previous = status.previous_revision
    serving = seen.workload(status.stable_revision, "live")
    standby = seen.workload(previous, "live")
    needed = max(1, serving.ready if serving is not None else 0)
    ready = standby.ready if standby is not None else 0
    if ready < needed:
        return f"{ready} of {needed} pods of {previous} are ready"
    plan = seen.route.plan
    if plan is None or all(slot.revision != previous for slot in plan.slots):
        return f"{previous} has no place in the route yet"
    if not seen.route.programmed and draft.unprogrammed_for <= SLOT_PATIENCE:
        return seen.route.message or "waiting for the gateway to accept the route"
    return None


def _standby(draft: Draft) -> Revision | None:
    """The revision before the stable one, if it is known and can take all users now."""
    if not returning(draft):
        return None
    if lacking(draft) is not None:
        draft.look_again(draft.settings.refresh)  # pods and the route tell when they change
        return None
    return draft.seen.revisions.get(draft.status.previous_revision or "")


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
