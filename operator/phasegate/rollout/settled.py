"""No attempt is running: the stable revision serves everything, or is being created."""

from __future__ import annotations

from phasegate.rollout.attempt import ROUTE_PATIENCE, cannot_mirror, start
from phasegate.rollout.draft import Draft
from phasegate.rollout.journal import written
from phasegate.rollout.late import take_back_late
from phasegate.rollout.lost import remember_attempts, served_before
from phasegate.rollout.observed import Revision
from phasegate.rollout.phases import mirrors, phases_of
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import safe_plan, watch_safety
from phasegate.rollout.route import RoutePlan, split, with_intent
from phasegate.rollout.waiting import waits
from phasegate.rollout.workloads import previous_is_warm


def adopt(draft: Draft) -> bool:
    """Know a stable revision; False if there is none.

    It is the one that serves already, if the status was lost, or else the first.
    """
    seen = draft.seen
    if draft.status.stable_revision is not None:
        return True
    known = seen.revisions.get(seen.stable_service or served_before(seen) or "")
    first = known or seen.target
    if first is None:
        _say_no_target(draft, "there is no revision to run")
        return False
    draft.update(stable_revision=first.hash, stable_digest=first.digest)
    remember_attempts(draft)
    if known is None:
        draft.update(phase="Creating")
        draft.announce(Reason.CREATING, f"first revision {first.hash}: it gets all traffic at once")
    return True


def settle(draft: Draft) -> None:
    """One pass without an attempt; starts one if the spec describes something new."""
    if take_back_late(draft):
        return
    if draft.seen.spec is None:
        draft.say(
            Reason.INVALID_SPEC, draft.seen.spec_problem or "the spec cannot be read", stalled=True
        )
        return
    watch_safety(draft)
    _replace_first(draft)
    keep_route(draft)
    target = draft.seen.target
    if target is None or draft.seen.spec_problem is not None:
        _say_no_target(draft, "the revision cannot be determined")
    elif target.hash == draft.status.stable_revision:
        _report_stable(draft)
    elif target.hash in draft.status.rejected_revisions:
        _report_rejected(draft, target)
    elif not written(draft):
        draft.say(Reason.ROLLING_OUT, "writing the record of the last rollout first")
        draft.look_again(draft.settings.poll)
    elif not _obstacle(draft) and not waits(draft, f"{target.hash} is to begin"):
        start(
            draft,
            target,
            why=f"the spec describes {target.hash}, stable is {draft.status.stable_revision}",
        )


def _say_no_target(draft: Draft, otherwise: str) -> None:
    """Why the spec leads to no revision that could be run."""
    seen = draft.seen
    if seen.spec_problem is None and seen.unread is not None:
        draft.say(Reason.READ_FAILED, seen.unread)
    else:
        draft.say(seen.spec_reason, seen.spec_problem or otherwise, stalled=True)


def _replace_first(draft: Draft) -> None:
    """A first revision that never served anybody is replaced at once: there is nothing to protect."""
    target, status = draft.seen.target, draft.status
    if status.phase != "Creating" or target is None or draft.seen.spec_problem is not None:
        return
    if draft.seen.unread is not None:
        return
    first = draft.seen.workload(status.stable_revision, "live")
    if first is not None and first.ready > 0:
        return  # it serves, if not with all its pods: what comes next is judged
    if target.hash != status.stable_revision:
        draft.update(stable_revision=target.hash, stable_digest=target.digest)
        draft.announce(
            Reason.CREATING, f"first revision {target.hash} replaces one that never served"
        )


def keep_route(draft: Draft) -> None:
    """Everything to stable; another revision keeps its idle slot as long as it is kept running."""
    status, current = draft.status, draft.seen.route.plan
    stable = status.stable_revision
    if stable is None:
        return
    serving = draft.seen.workload(stable, "live")
    if current is None and serving is None:
        draft.look_again(draft.settings.poll)  # a route to a Service that is not there answers 500
        return
    elsewhere = current is not None and all(s.revision != stable for s in current.slots)
    if elsewhere and (serving is None or serving.ready == 0):
        draft.look_again(draft.settings.poll)  # nobody is moved to pods that are not there
        return
    beside = _beside(draft)
    if beside is not None and beside == status.previous_revision:
        plan = split(stable, beside, 0, current)  # also if its pods, and so its slot, were gone
    else:
        plan = safe_plan(stable, beside, current)
    if (
        current is not None
        and current.intent is not None
        and current.intent.rollout == status.current_rollout
    ):
        plan = with_intent(plan, current.intent)
    if plan != current:
        draft.route = plan
        draft.look_again(draft.settings.poll)


def _beside(draft: Draft) -> str | None:
    """The revision that still runs beside the stable one: warm standby, or one that just lost its traffic."""
    status, seen = draft.status, draft.seen
    if previous_is_warm(status, draft.now) and status.previous_revision is not None:
        if status.previous_warm_until is not None:
            draft.look_again(status.previous_warm_until)
        standby = seen.workload(status.previous_revision, "live")
        return status.previous_revision if standby is not None and standby.ready > 0 else None
    gate, candidate = status.last_gate, status.candidate_revision
    if candidate is None or gate is None:
        draft.update(base_replicas=None, base_replicas_until=None)
        return None
    until = gate.at + draft.settings.linger
    if draft.now < until:
        draft.look_again(until)
        return candidate
    draft.update(
        candidate_revision=None,
        candidate_digest=None,
        base_replicas=None,
        base_replicas_until=None,
    )
    return None


def _report_stable(draft: Draft) -> None:
    status, seen = draft.status, draft.seen
    stable = status.stable_revision
    workload = seen.workload(stable, "live")
    ready, wanted = (workload.ready if workload else 0), draft.spec.replicas
    creating = status.phase in ("", "Creating")
    route_missing = seen.route.plan is None or draft.route is not None or not seen.route.programmed
    if ready < wanted:
        problem = workload.problem if workload is not None else None
        reason = Reason.CREATING if creating else Reason.STABLE_UNAVAILABLE
        text = f"{ready} of {wanted} pods of {stable} are ready" + (
            f": {problem}" if problem else ""
        )
        draft.say(reason, text, stalled=problem is not None)
        draft.look_again(draft.settings.refresh)
    elif route_missing:
        late = draft.unprogrammed_for > ROUTE_PATIENCE and draft.route is None
        text = seen.route.message or "waiting for the gateway to accept the route"
        draft.say(
            Reason.ROUTE_NOT_ACCEPTED if late else Reason.WAITING_FOR_ROUTE, text, stalled=late
        )
        draft.look_again(draft.settings.poll)
    else:
        draft.say(Reason.STABLE, f"{stable} serves all traffic", ready=True)
        draft.update(phase="Stable")
        if creating:
            draft.announce(Reason.STABLE, f"first revision {stable} is serving")
        if _only_stable(seen.route.plan, stable):
            draft.release = True


def _only_stable(plan: RoutePlan | None, stable: str | None) -> bool:
    return (
        plan is not None
        and stable is not None
        and plan.percent(stable) == 100
        and plan.mirror is None
    )


def _report_rejected(draft: Draft, target: Revision) -> None:
    rollback = draft.status.rollback
    if rollback is not None and rollback.revision == target.hash:
        safe = (
            f"; traffic was safe after {rollback.seconds_to_safe} s"
            if rollback.seconds_to_safe
            else ""
        )
        what = f"rolled back in {rollback.phase} ({rollback.trigger}): {rollback.message}{safe}"
    else:
        what = f"{target.hash} was rolled back before"
    draft.say(
        Reason.ROLLED_BACK,
        f"{what}. Change the spec, restore the stable revision {draft.status.stable_revision}, or Retry",
        stalled=True,
    )
    if (
        _only_stable(draft.seen.route.plan, draft.status.stable_revision)
        and draft.seen.route.programmed
    ):
        draft.release = True


def _obstacle(draft: Draft) -> bool:
    """True when an attempt must not start; says why."""
    seen = draft.seen
    if seen.unread is not None:
        draft.say(Reason.READ_FAILED, seen.unread)
        return True
    if seen.policy.problem is not None:
        draft.say(seen.policy.reason, seen.policy.problem, stalled=True)
        return True
    if seen.fallback_problem is not None:
        draft.say(Reason.FALLBACK_INVALID, seen.fallback_problem, stalled=True)
        return True
    mirroring = next((p for p in phases_of(draft.spec.strategy) if mirrors(p)), None)
    if mirroring is not None and not seen.route.capabilities.mirror and seen.route.plan is not None:
        draft.say(Reason.ROUTER_CANNOT_MIRROR, cannot_mirror(draft, mirroring), stalled=True)
        return True
    if draft.route is not None or not seen.route.programmed:
        draft.say(
            Reason.WAITING_FOR_ROUTE,
            seen.route.message or "waiting for the route before a rollout starts",
        )
        draft.look_again(draft.settings.poll)
        return True
    return False
