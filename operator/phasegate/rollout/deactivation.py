"""A deactivated agent: no request reaches it, until a person says so and its pods are ready.

Going off is a rollback of everything: the route first, and why in the same write (ADR 3). Coming
back gives users to somebody, so it is the other way round: the word is in the status first.
"""

from __future__ import annotations

from dataclasses import replace

from phasegate.api.agentdeployment import Owner
from phasegate.api.deactivation import Deactivated
from phasegate.rollout.draft import Draft
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import roll_back, watch_safety
from phasegate.rollout.route import Backend, Deactivation
from phasegate.rollout.settled import adopt, keep_route, settle

KILL_SWITCH = "KillSwitch"


def is_deactivated(draft: Draft) -> bool:
    """True from the word on until users are back; the route may know of it before the status does."""
    plan = draft.seen.route.plan
    return draft.status.deactivated is not None or (plan is not None and plan.off is not None)


def stay_deactivated(draft: Draft) -> None:
    """One pass of a deactivated agent: what runs goes on running, nothing is started."""
    word = _word(draft)
    if draft.status.progress is not None:
        roll_back(draft, KILL_SWITCH, word.reason, by=word.by)
    current = draft.seen.route.plan
    if word.resumed is not None and (current is None or current.off is None):
        _active_again(draft, word)
        return
    if not draft.seen.partial:
        if not adopt(draft):
            return
        watch_safety(draft)
        if draft.route is None:
            keep_route(draft)
    plan = draft.route or current
    if plan is not None:
        lacking = _lacking(draft) if word.resumed is not None else ""
        if word.resumed is None or lacking:
            off = Deactivation(word.by, word.reason, word.at, answering(draft))
            plan = replace(plan, mirror=None, header=None, off=off)
        draft.route = plan if plan != current else None
        _say(draft, word, lacking)
    else:
        _say(draft, word, _lacking(draft))


def answering(draft: Draft) -> Backend | None:
    """Who answers instead of the agent; None: every request is refused."""
    spec, plan = draft.seen.spec, draft.seen.route.plan
    if spec is None:  # nobody can tell any more: as it is
        return plan.off.fallback if plan is not None and plan.off is not None else None
    if spec.fallback is None or draft.seen.fallback_problem is not None:
        return None
    return Backend(spec.fallback.service.name, spec.fallback.service.port)


def told(draft: Draft) -> str:
    """What users get, in words."""
    backend = answering(draft)
    if backend is not None:
        return f"Service {backend.name}:{backend.port} answers instead"
    problem = draft.seen.fallback_problem
    return f"every request is refused ({problem})" if problem else "every request is refused"


def _word(draft: Draft) -> Deactivated:
    """Whose word it is; one that only the route knows of was written before a crash."""
    known, plan = draft.status.deactivated, draft.seen.route.plan
    if known is not None:
        return known
    if plan is None or plan.off is None:
        raise AssertionError("nobody has deactivated the agent")
    word = Deactivated(by=plan.off.by, reason=plan.off.reason, at=plan.off.decided_at)
    draft.update(deactivated=word)
    return word


def _lacking(draft: Draft) -> str:
    """What keeps users from going back; "" if nothing does."""
    stable = draft.status.stable_revision
    workload = draft.seen.workload(stable, "live")
    ready = workload.ready if workload is not None else 0
    wanted = draft.seen.spec.replicas if draft.seen.spec is not None else 1
    return "" if ready >= max(1, wanted) else f"{ready} of {wanted} pods of {stable} are ready"


def _active_again(draft: Draft, word: Deactivated) -> None:
    who = word.resumed.by if word.resumed is not None else word.by
    draft.update(deactivated=None)
    draft.announce(
        Reason.REACTIVATED,
        f"resumed by {who}: all users are with {draft.status.stable_revision} again",
    )
    if not draft.seen.partial and adopt(draft):
        settle(draft)


def _say(draft: Draft, word: Deactivated, lacking: str) -> None:
    since = f"{word.at:%Y-%m-%d %H:%M:%S} UTC"
    what = f"deactivated by {word.by} since {since} ({word.reason}): {told(draft)}"
    if word.resumed is None:
        owner = draft.seen.spec.owner if draft.seen.spec is not None else None
        how = f"to go on create a RolloutAction with verb Resume{_by(owner)}"
        draft.say(
            Reason.DEACTIVATED,
            f"{what}; {how} for revision {draft.status.stable_revision}",
            stalled=True,
        )
        draft.look_again(draft.settings.refresh)
        return
    rest = lacking or "the route is being programmed"
    draft.say(Reason.REACTIVATING, f"{what}; resumed by {word.resumed.by}: {rest}")
    draft.look_again(draft.settings.poll)


def _by(owner: Owner | None) -> str:
    if owner is None:
        return ""
    return f" as {owner.rollback_owner}" + (f" or {owner.backup}" if owner.backup else "")
