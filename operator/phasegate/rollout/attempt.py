"""A running attempt: safety first, then the phase, then the gate to the next one."""

from __future__ import annotations

from datetime import datetime, timedelta

from phasegate.api.agentdeployment import Phase, Progress
from phasegate.rollout.approvals import agreed
from phasegate.rollout.budget import budget_in_force, watch_budget
from phasegate.rollout.draft import Draft
from phasegate.rollout.gate import await_approval, gate, say_held
from phasegate.rollout.giving import gives_more
from phasegate.rollout.journal import head
from phasegate.rollout.labels import FINALIZER
from phasegate.rollout.observed import Revision
from phasegate.rollout.phases import mirrors, mode_of, phases_of, weight_of
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import complete, decided_before, roll_back, safe_plan, tripped
from phasegate.rollout.route import HeaderRoute, Mirror, RoutePlan, split
from phasegate.rollout.waiting import gone_past, told, waits
from phasegate.rollout.workloads import candidate_workload

ROUTE_PATIENCE = timedelta(seconds=30)
"""How long a gateway may take to accept a route before a person should look."""


def start(draft: Draft, target: Revision, *, why: str) -> None:
    """Begin an attempt with the strategy's first phase. Traffic moves in a later pass, when pods are ready."""
    status = draft.status
    first = phases_of(draft.spec.strategy)[0]
    number = max(status.rollouts, *(record.spec.number for record in draft.seen.records), 0) + 1
    floor, until = _floor(draft)
    past = gone_past(draft)
    why, by = told(draft, why, draft.spec.author)
    draft.update(
        candidate_revision=target.hash,
        candidate_digest=target.digest,
        rollouts=number,
        record=None,
        record_before=head(draft),
        current_rollout=f"{draft.seen.meta.name}-{number}",
        base_replicas=floor,
        base_replicas_until=until,
        progress=Progress(
            phase=first,
            entered_at=draft.now,
            author=draft.spec.author,
            past_calendar=past.by if past is not None else None,
        ),
        rollback=None,
        previous_revision=None,
        previous_warm_until=None,
        checks=(),
        notices=(),
        plan=(),
    )
    draft.record("Started", "stable", first.name, Reason.STARTED, why, by)
    draft.announce(Reason.STARTED, f"{target.hash} begins with {first.name}: {why}")
    draft.say(Reason.WAITING_FOR_PODS, f"{first.name}: starting {target.hash}")
    draft.look_again(draft.settings.poll)


def _floor(draft: Draft) -> tuple[int, datetime | None]:
    """Pods that stable keeps, and until when if they are the attempt's before: it must not pass them on."""
    status, gate_before = draft.status, draft.status.last_gate
    if status.base_replicas is None or gate_before is None:
        serving = draft.seen.workload(status.stable_revision, "live")
        return serving.desired if serving is not None else draft.spec.replicas, None
    until = status.base_replicas_until or gate_before.at + draft.settings.linger
    return max(draft.spec.replicas, status.base_replicas), until


def _lower_floor(draft: Draft) -> None:
    """What was kept for the attempt before is not needed any more."""
    until = draft.status.base_replicas_until
    if until is not None and draft.now >= until:
        draft.update(base_replicas=draft.spec.replicas, base_replicas_until=None)


def run(draft: Draft) -> None:
    """One pass of a running attempt."""
    if not _safe(draft):
        return
    if draft.seen.partial:
        draft.say(Reason.READ_FAILED, draft.seen.unread or "not all was looked at")
        return
    watch_budget(draft)
    if draft.seen.plan and not draft.status.plan:
        draft.update(plan=tuple(line[:2048] for line in draft.seen.plan[:24]))
    progress = draft.status.progress
    candidate = draft.status.candidate_revision
    stable = draft.status.stable_revision
    if progress is None or candidate is None or stable is None:
        raise AssertionError("an attempt without its revisions")
    if draft.seen.spec is None:
        draft.say(
            Reason.INVALID_SPEC, draft.seen.spec_problem or "the spec cannot be read", stalled=True
        )
        return
    _lower_floor(draft)
    if _traffic_in_place(draft, progress, stable, candidate) and not draft.seen.route.contested:
        gate(draft)
    if draft.status.progress is not None and _edited(draft, draft.status.progress):
        draft.message += " (the strategy was edited: that applies from the next phase on)"


def _edited(draft: Draft, progress: Progress) -> bool:
    """True when the strategy says something else about the running phase than when it began.

    Its budget aside: that counts at once.
    """
    running = progress.phase.model_copy(update={"budget": budget_in_force(draft, progress)})
    return running not in phases_of(draft.spec.strategy)


def _safe(draft: Draft) -> bool:
    """False when this pass took the traffic back or ended the attempt."""
    seen, status = draft.seen, draft.status
    intent = decided_before(draft)
    if intent is not None:
        complete(draft, intent)
        return False
    failure = tripped(seen.judgement)
    if failure is not None:
        trigger, message, since = failure
        roll_back(draft, trigger, message, since=since)
        return False
    if _gone(draft):
        roll_back(
            draft, "availability", "no pod of the candidate is ready while users are sent to it"
        )
        return False
    if seen.target is not None and seen.target.hash != status.candidate_revision:
        _leave(draft, seen.target)
        return False
    return True


def _gone(draft: Draft) -> bool:
    """True when users are sent to a candidate none of whose pods is ready."""
    candidate, plan = draft.status.candidate_revision, draft.seen.route.plan
    if candidate is None or plan is None or plan.percent(candidate) == 0:
        return False
    if not draft.seen.pods_seen:
        return False
    workload = draft.seen.workload(candidate, "live")
    return workload is None or workload.ready == 0


def _leave(draft: Draft, target: Revision) -> None:
    """The spec describes another revision now: traffic goes back, and that one gets its own attempt."""
    status, progress = draft.status, draft.status.progress
    stable, candidate = status.stable_revision, status.candidate_revision
    if progress is None or stable is None or candidate is None:
        raise AssertionError("left an attempt that does not run")
    back = target.hash == stable
    draft.route = safe_plan(stable, candidate, draft.seen.route.plan)
    reason = Reason.CANCELLED if back else Reason.SUPERSEDED
    why = (
        f"the spec is back at the stable revision {stable}"
        if back
        else f"the spec describes {target.hash} now; it begins with the first phase"
    )
    draft.update(progress=None)
    draft.record("Cancelled" if back else "Superseded", progress.phase.name, "stable", reason, why)
    draft.announce(reason, f"{candidate} left {progress.phase.name}: {why}")
    draft.say(reason, why)
    draft.look_again(timedelta(0))


def phase_plan(draft: Draft, phase: Phase, stable: str, candidate: str) -> RoutePlan:
    """What the route says in `phase`."""
    current = draft.seen.route.plan
    if not mirrors(phase):
        return split(stable, candidate, weight_of(phase), current)
    mode = mode_of(phase, draft.spec)
    plan = safe_plan(stable, _lingering(draft), current)
    header = HeaderRoute(candidate, mode) if phase.type == "Shadow" else None
    if draft.status.progress is not None and draft.status.progress.spent is not None:
        return RoutePlan(plan.slots, None, header)  # no more copies; who asks on purpose may
    return RoutePlan(plan.slots, Mirror(candidate, mode, phase.mirror_percent or 100), header)


def _lingering(draft: Draft) -> str | None:
    """A revision that lost its traffic just before this attempt: requests to it are still in flight."""
    current, progress = draft.seen.route.plan, draft.status.progress
    if current is None or progress is None or not draft.in_first_phase:
        return None
    until = progress.entered_at + draft.settings.linger
    if draft.now >= until:
        return None
    draft.look_again(until)
    others = (s.revision for s in current.slots if s.revision != draft.status.stable_revision)
    return next(others, None)


def _traffic_in_place(draft: Draft, progress: Progress, stable: str, candidate: str) -> bool:
    """Bring the phase's traffic about; True once it is there."""
    seen, phase = draft.seen, progress.phase
    draft.look_again(draft.settings.refresh)
    if mirrors(phase) and not seen.route.capabilities.mirror:
        _without_more(draft, stable, candidate)
        draft.say(Reason.ROUTER_CANNOT_MIRROR, cannot_mirror(draft, phase), stalled=True)
        return False
    wanted = candidate_workload(draft.spec, draft.status, phase, candidate)
    workload = seen.workload(candidate, wanted.mode)
    started = progress.started_at is not None
    ready = 0 if workload is None else workload.ready
    if ready == 0 or (not started and ready < wanted.replicas):
        _without_more(draft, stable, candidate)
        problem = workload.problem if workload is not None else None
        text = f"{phase.name}: {ready} of {wanted.replicas} pods of {candidate} are ready"
        if problem is not None:
            draft.say(Reason.CANDIDATE_NOT_READY, f"{text}: {problem}", stalled=True)
        else:
            draft.say(Reason.WAITING_FOR_PODS, text)
        return False
    if progress.hold is not None and not started:
        _without_more(draft, stable, candidate)
        say_held(draft, progress.hold)
        return False
    if not started and draft.in_first_phase and not agreed(draft, progress, phase):
        await_approval(draft, phase)
        return False
    plan = phase_plan(draft, phase, stable, candidate)
    if gives_more(seen.route.plan, plan, stable) and _withheld(draft, progress):
        _without_more(draft, stable, candidate)
        return False
    if seen.route.plan != plan:
        draft.route = plan
        draft.say(Reason.WAITING_FOR_ROUTE, f"{phase.name}: programming the route")
        draft.look_again(draft.settings.poll)
        return False
    if not seen.route.programmed:
        late = draft.unprogrammed_for > ROUTE_PATIENCE
        draft.say(
            Reason.ROUTE_NOT_ACCEPTED if late else Reason.WAITING_FOR_ROUTE,
            f"{phase.name}: {seen.route.message or 'waiting for the gateway to accept the route'}",
            stalled=late,
        )
        draft.look_again(draft.settings.poll)
        return False
    if not started:
        draft.update(progress=progress.model_copy(update={"started_at": draft.now}))
    return True


def _withheld(draft: Draft, progress: Progress) -> bool:
    """True when the phase may not get its traffic yet: the calendar is shut, or the finalizer is missing.

    A calendar that shuts later takes nothing away.
    """
    name, begins = progress.phase.name, progress.started_at is None
    if begins and progress.past_calendar is None and waits(draft, f"{name} waits for its traffic"):
        return True
    if FINALIZER in draft.seen.meta.finalizers:
        return False
    text = f"waiting for the finalizer {FINALIZER}: without it a deletion could cost requests"
    draft.say(Reason.WAITING_FOR_ROUTE, f"{name}: {text}")
    draft.look_again(draft.settings.poll)
    return True


def _without_more(draft: Draft, stable: str, candidate: str) -> None:
    """While the phase's traffic cannot be put in place, nothing gets more than it has.

    Nor is anything mirrored to pods that are not there.
    """
    current, progress = draft.seen.route.plan, draft.status.progress
    if current is None or progress is None:
        return
    percent = min(current.percent(candidate), weight_of(progress.phase))
    plan = (
        split(stable, candidate, percent, current)
        if percent
        else safe_plan(stable, _lingering(draft) or candidate, current)
    )
    mirror = _served(draft, current.mirror)
    if mirror == current.mirror and plan.slots == current.slots:
        return
    draft.route = RoutePlan(plan.slots, mirror, current.header if mirror else None)


def _served(draft: Draft, mirror: Mirror | None) -> Mirror | None:
    """The mirror, if there are pods to take its copies."""
    workload = draft.seen.workload(mirror.revision, mirror.mode) if mirror is not None else None
    return mirror if workload is not None and workload.ready > 0 else None


def cannot_mirror(draft: Draft, phase: Phase) -> str:
    """Why a phase is refused on this router, with what to do."""
    source = draft.seen.route.capabilities.source
    return (
        f"phase {phase.name} copies requests, which this router cannot do ({source}); use a strategy "
        "without Dark and Shadow phases, or a gateway that supports RequestMirror"
    )
