"""``decide``: what was observed and the time go in, what to do comes out.

All that decides about traffic is below this function, and none of it does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from phasegate.api.agentdeployment import TrafficShare
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus, RolloutPhase
from phasegate.rollout.actions import take_actions
from phasegate.rollout.attempt import run
from phasegate.rollout.conditions import conditions_of
from phasegate.rollout.decision import Decision, RolloutPlan
from phasegate.rollout.draft import Draft, summaries
from phasegate.rollout.notices import keep_notices, recorded
from phasegate.rollout.observed import Observed, Settings
from phasegate.rollout.phases import phases_of, weight_of
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import safe_plan
from phasegate.rollout.route import RoutePlan
from phasegate.rollout.settled import adopt, settle
from phasegate.rollout.workloads import children_for

DELETION_PATIENCE = timedelta(seconds=30)
"""A gateway that does not confirm must not hold a deletion for ever."""
FINALIZER = "phasegate.dev/traffic"
"""Present only while an attempt may have traffic, so that nothing is stuck on it when the operator is gone."""
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
    take_actions(draft)
    if seen.status.progress is not None:
        if draft.status.progress is not None:
            run(draft)
    elif adopt(draft):
        settle(draft)
    keep_notices(draft)
    return _finish(draft)


def _delete(draft: Draft) -> Decision:
    """All traffic is with stable before anything goes; then the children go with their owner."""
    seen, status = draft.seen, draft.status
    stable, current = status.stable_revision, seen.route.plan
    if stable is not None and current is not None:
        plan = safe_plan(stable, status.candidate_revision, current)
        if plan.slots != current.slots or current.mirror or current.header:
            draft.route = plan
    waited = draft.now - (seen.meta.deleted or draft.now)
    confirmed = draft.route is None and (current is None or seen.route.programmed)
    if confirmed or waited > DELETION_PATIENCE:
        draft.release = True
    draft.say(
        Reason.DELETING, "all traffic goes to the stable revision, then everything is removed"
    )
    draft.update(
        phase="Deleting",
        observed_generation=seen.meta.generation,
        message=draft.message,
        traffic=_shares(draft, draft.route or current),
    )
    draft.update(conditions=conditions_of(draft))
    return Decision(
        status=draft.status,
        route=draft.route,
        finalizer="remove" if draft.release else "keep",
        requeue_at=draft.now + draft.settings.poll,
    )


def _finish(draft: Draft) -> Decision:
    seen, now = draft.seen, draft.now
    future = [at for at in draft.decided_at if at > now]
    soon = any(at <= now for at in draft.decided_at)
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
        store=target if target is not None and target.hash not in seen.revisions else None,
        rollouts=() if seen.partial else _records(draft),
        outcomes=tuple(draft.outcomes),
        finalizer=_finalizer(draft),
        announcements=tuple(draft.announcements),
        requeue_at=requeue,
    )


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
        selector=f"phasegate.dev/agent={seen.meta.name}",
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
    programmed = draft.seen.route.programmed and draft.route is None
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
    """The attempt's record as it should be: what it says already, plus what happened since."""
    seen, status = draft.seen, draft.status
    if status.current_rollout is None:
        return ()
    started = status.current_rollout != seen.status.current_rollout
    known = None if started else seen.rollout
    gates = known.gates if known is not None else ()
    # What the status already said comes first: its record may have been lost in a crash.
    before = [] if started or seen.status.last_gate is None else [seen.status.last_gate]
    news = [*before, *draft.records]
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
        }
    )
    spec = _rollout_spec(draft)
    if spec is None or record == known:
        return ()
    return (RolloutPlan(status.current_rollout, spec, record),)


def _rollout_spec(draft: Draft) -> AgentRolloutSpec | None:
    """What was tried, from the status alone: it survives a crash before the record was created."""
    status = draft.status
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
        number=status.rollouts,
        revision=revision,
        digest=digest,
        from_revision=origin,
        from_digest=from_digest,
    )
