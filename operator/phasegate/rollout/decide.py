"""``decide``: what was observed and the time go in, what to do comes out.

All that decides about traffic is below this function, and none of it does I/O.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from phasegate.api.agentdeployment import TrafficShare
from phasegate.rollout.actions import take_actions
from phasegate.rollout.attempt import run
from phasegate.rollout.conditions import conditions_of, tell_of_names
from phasegate.rollout.deactivation import is_deactivated, stay_deactivated
from phasegate.rollout.decision import Decision
from phasegate.rollout.draft import Draft, summaries
from phasegate.rollout.journal import head, records
from phasegate.rollout.labels import AGENT, FINALIZER, MODE
from phasegate.rollout.late import users_and_other
from phasegate.rollout.notices import keep_notices
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


def decide(seen: Observed, now: datetime, settings: Settings) -> Decision:
    """One pass over one AgentDeployment. Pure: the same arguments give the same decision."""
    draft = Draft(seen=seen, now=now, settings=settings, status=seen.status)
    if seen.meta.deleted is not None:
        return _delete(draft)
    if seen.unread is not None:
        draft.look_again(READ_AGAIN)
    take_actions(draft)
    if is_deactivated(draft):
        stay_deactivated(draft)
    elif draft.route is not None:
        pass  # a person took traffic back: everything else is for the next pass
    elif draft.status.progress is not None:
        run(draft)
    elif seen.partial:  # nothing to take back; the rest is not known
        return Decision(status=seen.status, requeue_at=now)
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
        plan = replace(safe, intent=current.intent, closed=current.closed, off=current.off)
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
    tell_of_names(draft)
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
        rollouts=() if seen.partial else records(draft),
        # Told once the record has them: a short look writes none.
        outcomes=() if seen.partial else tuple(draft.outcomes),
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
    if status.current_rollout == seen.status.current_rollout:
        draft.update(record=head(draft))
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
        next_decision_at=draft.goes_on_at or (due if progress is not None else None),
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
    if status.deactivated is not None:
        return "Deactivated"
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
