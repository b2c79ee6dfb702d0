"""``decide``: what was observed and the time go in, what to do comes out.

All that decides about traffic is below this function, and none of it does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from phasegate.api.agentdeployment import AgentDeploymentStatus, TrafficShare
from phasegate.api.agentrollout import (
    AgentRolloutSpec,
    AgentRolloutStatus,
    JudgedBy,
    RolloutPhase,
)
from phasegate.api.records import GateRecord
from phasegate.rollout.actions import take_actions
from phasegate.rollout.attempt import run
from phasegate.rollout.conditions import conditions_of
from phasegate.rollout.decision import Decision, RolloutPlan
from phasegate.rollout.draft import Draft, summaries
from phasegate.rollout.keeping import kept
from phasegate.rollout.labels import AGENT, FINALIZER, MODE
from phasegate.rollout.late import users_and_other, waits_for_labels
from phasegate.rollout.notices import keep_notices, recorded
from phasegate.rollout.observed import Observed, Settings
from phasegate.rollout.phases import phases_of, weight_of
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import safe_plan
from phasegate.rollout.route import RoutePlan
from phasegate.rollout.settled import adopt, settle
from phasegate.rollout.telling import announced
from phasegate.rollout.trespass import tell_of_edits
from phasegate.rollout.workloads import children_for

DELETION_PATIENCE = timedelta(seconds=30)
"""A gateway that does not confirm must not hold a deletion for ever, nor one that cannot be told."""
DRAIN = timedelta(seconds=2)
"""How long a route takes no requests before it goes: proxies hear of it later than the API server."""
READ_AGAIN = timedelta(seconds=5)
"""When something that could not be read, and on which no safety rests, is read again."""
_ENDED: Mapping[str, RolloutPhase] = MappingProxyType(
    {
        "RolledBack": "RolledBack",
        "Superseded": "Superseded",
        "Cancelled": "Cancelled",
        "Stable": "Succeeded",
    }
)


def decide(seen: Observed, now: datetime, settings: Settings) -> Decision:
    """One pass over one AgentDeployment. Pure: the same arguments give the same decision."""
    draft = Draft(seen=seen, now=now, settings=settings, status=seen.status)
    if seen.meta.deleted is not None:
        return _delete(draft)
    if seen.partial and seen.status.progress is None:  # nothing to take back; the rest is not known
        return Decision(status=seen.status, requeue_at=now)
    if seen.unread is not None:
        draft.look_again(READ_AGAIN)
    take_actions(draft)
    if seen.status.progress is not None:
        if draft.status.progress is not None:
            run(draft)
    elif adopt(draft):
        settle(draft)
    keep_notices(draft)
    return _finish(draft)


def _delete(draft: Draft) -> Decision:
    """Traffic goes back to stable, the route takes no more, it goes, and then everything else.

    The rest goes with its owner in any order, and a route to a Service that is gone answers 500.
    So does, for a moment, one that goes while requests come: proxies drop its backends first.
    """
    seen, current = draft.seen, draft.seen.route.plan
    stable, other = users_and_other(draft.status, current)
    if current is not None:
        safe = safe_plan(stable, other, current) if stable is not None else current
        plan = replace(safe, intent=current.intent, closed=current.closed)
        if plan == current and seen.route.programmed:
            plan = replace(plan, closed=True)
        draft.route = plan if plan != current else None
    waited = draft.now - (seen.meta.deleted or draft.now)
    closed = current is not None and current.closed and seen.route.programmed
    closed_at = (draft.status.closed_at or draft.now) if closed else None
    quiet = closed_at is not None and draft.now - closed_at >= DRAIN
    remove = current is None or quiet or waited > DELETION_PATIENCE
    draft.release = current is None or waited > 2 * DELETION_PATIENCE
    closing = draft.route.closed if draft.route is not None else current and current.closed
    steps = "all traffic goes to the stable revision", "the route takes no more requests"
    what = "the route is removed" if remove else steps[1 if closing else 0]
    draft.say(Reason.DELETING, f"{what}, then everything is removed")
    draft.update(
        phase="Deleting",
        observed_generation=seen.meta.generation,
        message=draft.message,
        closed_at=closed_at,
        traffic=_shares(draft, draft.route or current),
    )
    draft.update(conditions=conditions_of(draft))
    return Decision(
        status=draft.status,
        route=None if remove else draft.route,
        remove_route=remove,
        finalizer="remove" if draft.release else "keep",
        requeue_at=draft.now + draft.settings.poll,
    )


def _finish(draft: Draft) -> Decision:
    seen, now = draft.seen, draft.now
    future = [at for at in draft.decided_at if at > now]
    soon = any(at <= now for at in draft.decided_at)
    tell_of_edits(draft)
    requeue = now if soon else min(future, default=None)
    _summarise(draft, min(future, default=None))
    target = seen.target
    spec = seen.spec
    children = None
    if spec is not None and draft.status.stable_revision is not None and not seen.partial:
        children = children_for(seen, spec, draft.status, draft.route, now)
    return Decision(
        status=draft.status,
        route=draft.route,
        children=children,
        store=target if _is_new(seen) else None,
        rollouts=() if seen.partial else _records(draft),
        outcomes=tuple(draft.outcomes),
        finalizer=_finalizer(draft),
        announcements=tuple(draft.announcements),
        requeue_at=requeue,
    )


def _is_new(seen: Observed) -> bool:
    """True when the revision that the spec describes is not stored yet, as far as all are known."""
    target = seen.target
    return target is not None and not seen.partial and target.hash not in seen.revisions


def _finalizer(draft: Draft) -> Literal["keep", "add", "remove"]:
    """Held while an attempt runs, given back when stable has everything."""
    present = FINALIZER in draft.seen.meta.finalizers
    if draft.status.progress is not None:
        return "keep" if present else "add"
    return "remove" if present and draft.release else "keep"


def _summarise(draft: Draft, due: datetime | None) -> None:
    """The part of the status that tells people where things stand."""
    seen, status = draft.seen, draft.status
    progress, judgement = status.progress, seen.judgement
    draft.update(announced=announced(status.announced, draft.announcements, draft.now))
    plan = draft.route or seen.route.plan
    phases = phases_of(seen.spec.strategy) if seen.spec is not None else ()
    names = [phase.name for phase in phases]
    step = ""
    if progress is not None:
        name = progress.phase.name
        place = f" {names.index(name) + 1}/{len(names)}" if name in names else ""
        step = f"{name}{place}"
    stable = seen.workload(status.stable_revision, "live")
    draft.update(
        phase=_phase(draft),
        step=step,
        weight=weight_of(progress.phase) if progress is not None else None,
        message=draft.message[:2048],
        observed_generation=seen.meta.generation,
        traffic=_shares(draft, plan),
        next_decision_at=due if progress is not None else None,
        replicas=stable.desired if stable is not None else status.replicas,
        ready_replicas=stable.ready if stable is not None else status.ready_replicas,
        # All pods that users can reach: an autoscaler sums up what they use, whoever has the users.
        selector=f"{AGENT}={seen.meta.name},{MODE}=live",
    )
    if judgement is not None:
        draft.update(checks=summaries(judgement.checks))
    draft.update(conditions=conditions_of(draft))


def _phase(draft: Draft) -> str:
    status = draft.status
    if status.progress is not None:
        return status.progress.phase.type
    if draft.reason is Reason.ROLLED_BACK:
        return "RolledBack"
    if status.stable_revision is None:
        return "Pending"
    return "Creating" if status.phase == "Creating" else "Stable"


def _shares(draft: Draft, plan: RoutePlan | None) -> tuple[TrafficShare, ...]:
    """The split, desired and measured, stable first."""
    status, measured = draft.status, draft.seen.measured
    if plan is None:
        return ()
    route = draft.seen.route
    programmed = route.programmed and draft.route is None and not route.contested
    total = measured.candidate + measured.stable if measured is not None else 0
    shares = []
    for revision, calls in (
        (status.stable_revision, measured.stable if measured else 0),
        (status.candidate_revision, measured.candidate if measured else 0),
    ):
        if revision is None:
            continue
        mirrored = plan.mirror.percent if plan.mirror and plan.mirror.revision == revision else 0
        shares.append(
            TrafficShare(
                revision=revision,
                percent=plan.percent(revision),
                mirror_percent=mirrored,
                programmed=programmed,
                measured=f"{calls / total:.1%}" if total and not plan.mirror else None,
            )
        )
    return tuple(shares)


def _records(draft: Draft) -> tuple[RolloutPlan, ...]:
    """The records of the attempt that runs, and of the one before it if a new one starts now.

    What the status already said comes first: its record may have been lost in a crash.
    """
    seen, status = draft.seen, draft.status
    said = [] if seen.status.last_gate is None else [seen.status.last_gate]
    if status.current_rollout == seen.status.current_rollout:
        over = status.progress is None and not waits_for_labels(status, draft.now)
        plans = [_record(draft, status, seen.rollout, [*said, *draft.records], over=over)]
    else:
        plans = [
            _record(draft, seen.status, seen.rollout, said, over=True),
            _record(draft, status, None, draft.records, over=False),
        ]
    return (*draft.closed, *(plan for plan in plans if plan is not None))


def _record(
    draft: Draft,
    status: AgentDeploymentStatus,
    known: AgentRolloutStatus | None,
    news: Sequence[GateRecord],
    *,
    over: bool,
) -> RolloutPlan | None:
    """The record of the attempt of `status`: what it says already, plus `news`; None if that is all.

    `over`: nothing is judged by it any more, so what that took need not be kept.
    """
    if status.current_rollout is None:
        return None
    gates = known.gates if known is not None else ()
    gates = (*gates, *(record for record in news if record not in gates))
    ended = _ENDED.get(gates[-1].decision) if gates else None
    first = gates[0].at if gates else draft.now
    record = (known or AgentRolloutStatus(started_at=first)).model_copy(
        update={
            "gates": gates[-64:],
            "phase": ended or "Progressing",
            "message": gates[-1].message if gates else "",
            "ended_at": gates[-1].at if ended else None,
            "incident": status.rollback if ended == "RolledBack" else None,
            "notices": recorded(known.notices if known else (), status.notices, draft.now),
            "judged_by": None if over else _judged_by(draft, status, known),
            "evidence": known.evidence if known is not None and not over else None,
        }
    )
    spec = _rollout_spec(draft, status)
    if spec is None or record == known:
        return None
    return RolloutPlan(status.current_rollout, spec, record, over)


def _judged_by(
    draft: Draft, status: AgentDeploymentStatus, known: AgentRolloutStatus | None
) -> JudgedBy | None:
    before = known.judged_by if known is not None else None
    return before if status.progress is None else kept(draft.seen.policy, before)


def _rollout_spec(draft: Draft, status: AgentDeploymentStatus) -> AgentRolloutSpec | None:
    """What was tried, from the status alone: it survives a crash before the record was created."""
    if status.last_gate is not None and status.last_gate.decision == "Stable":
        revision, digest = status.stable_revision, status.stable_digest
        origin = status.previous_revision or status.stable_revision
    elif status.rollback is not None:
        revision, digest, origin = (
            status.rollback.revision,
            status.rollback.digest,
            status.rollback.to,
        )
    else:
        revision, digest, origin = (
            status.candidate_revision,
            status.candidate_digest,
            status.stable_revision,
        )
    stored = draft.seen.revisions.get(origin or "")
    from_digest = stored.digest if stored is not None else None
    if origin == status.stable_revision:
        from_digest = status.stable_digest
    if revision is None or digest is None or origin is None or from_digest is None:
        return None
    return AgentRolloutSpec(
        agent=draft.seen.meta.name,
        number=max(1, status.rollouts),  # a status that somebody edited may have lost it
        revision=revision,
        digest=digest,
        from_revision=origin,
        from_digest=from_digest,
    )
