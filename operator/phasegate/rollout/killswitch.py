"""Verbs KillSwitch, and Resume after it."""

from __future__ import annotations

from phasegate.api.deactivation import Deactivated, Word
from phasegate.rollout.deactivation import KILL_SWITCH, told
from phasegate.rollout.draft import Draft, one_line
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.owners import is_owner
from phasegate.rollout.reasons import Reason
from phasegate.rollout.refusals import Refusal
from phasegate.rollout.rollback import roll_back


def kill(draft: Draft, action: ActionSeen) -> str:
    """Verb KillSwitch: from now on no request reaches the agent, whatever revision it is of."""
    status, spec = draft.status, action.spec
    _about_this(draft, action)
    known = status.deactivated
    if known is not None and known.resumed is None:
        return f"already deactivated by {known.by}"
    if status.progress is not None:
        roll_back(draft, KILL_SWITCH, spec.reason, by=spec.actor)
    reason = one_line(spec.reason)
    plan = draft.seen.route.plan
    off = plan.off if known is None and plan is not None else None
    # A pass that ended before it said more: when it was decided is what the route says.
    said = off is not None and (off.by, off.reason) == (spec.actor, reason)
    at = off.decided_at if off is not None and said else draft.now
    draft.update(deactivated=Deactivated(by=spec.actor, reason=reason, at=at))
    draft.announce(
        Reason.DEACTIVATED, f"deactivated by {spec.actor} ({reason}): {told(draft)}", warning=True
    )
    return f"no request reaches the agent: {told(draft)}"


def reactivate(draft: Draft, action: ActionSeen) -> str:
    """Verb Resume after a KillSwitch: by the rollback owner or the backup, where they are named."""
    known, spec = draft.status.deactivated, draft.seen.spec
    if known is None:
        raise AssertionError("resumed what is not deactivated")
    _about_this(draft, action)
    if spec is None:
        raise Refusal(
            "the spec cannot be read, so it is not known who may resume: correct it first"
        )
    if not is_owner(spec, action.spec.actor):
        raise Refusal(
            "after a KillSwitch only spec.owner.rollbackOwner or spec.owner.backup may resume, and "
            f"{action.spec.actor} is neither"
        )
    if known.resumed is not None:
        return f"already resumed by {known.resumed.by}"
    word = Word(by=action.spec.actor, reason=one_line(action.spec.reason), at=draft.now)
    draft.update(deactivated=known.model_copy(update={"resumed": word}))
    return f"users go back to {draft.status.stable_revision} once its pods are ready"


def _about_this(draft: Draft, action: ActionSeen) -> None:
    """Raises Refusal unless it is about what runs now: a word of last week is not this week's."""
    status, revision = draft.status, action.spec.revision
    if status.stable_revision is None:
        raise Refusal("no revision has served anybody yet: to stop it set spec.replicas to 0")
    about = (
        *(status.stable_revision, status.stable_digest),
        *(status.candidate_revision, status.candidate_digest),
    )
    if revision not in about:
        raise Refusal(
            f"this is about revision {revision}, but {status.stable_revision} serves the users"
        )
