"""What people may decide about an attempt besides approving it."""

from __future__ import annotations

from phasegate.api.agentdeployment import Hold
from phasegate.rollout.budget import go_on, uncounted
from phasegate.rollout.draft import Draft
from phasegate.rollout.killswitch import reactivate
from phasegate.rollout.late import take_back_stable
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.refusals import Refusal, running
from phasegate.rollout.rollback import roll_back


def take_back(draft: Draft, action: ActionSeen) -> str:
    """Verbs Rollback and Reject: past every gate, pause and missing approval.

    Rollback also of the revision that serves everybody, while the one before it is kept warm.
    """
    status, spec = draft.status, action.spec
    serving = spec.revision in (status.stable_revision, status.stable_digest)
    if spec.verb == "Rollback" and status.progress is None and serving:
        return take_back_stable(draft, spec.reason, spec.actor)
    running(draft, action)
    revision = draft.status.candidate_revision
    roll_back(draft, action.spec.verb, action.spec.reason, by=action.spec.actor)
    return f"traffic is taken from {revision}"


def pause(draft: Draft, action: ActionSeen) -> str:
    """Verb Pause: the attempt does not advance."""
    progress = running(draft, action)
    hold = Hold(by=action.spec.actor, reason=action.spec.reason, at=draft.now)
    draft.update(progress=progress.model_copy(update={"hold": hold}))
    return "paused: it does not advance; a rollback is still possible at any moment"


def resume(draft: Draft, action: ActionSeen) -> str:
    """Verb Resume: ends a deactivation or a pause, or grants a phase's budget once more."""
    if draft.status.deactivated is not None:
        return reactivate(draft, action)
    progress = running(draft, action)
    if progress.hold is not None:
        draft.update(progress=progress.model_copy(update={"hold": None}))
        return "resumed"
    if progress.spent is not None:
        if uncounted(draft, progress):
            raise Refusal(
                "what the calls cost is not known, so no more of a budget in money can be granted: "
                "add what is missing to the operator's price table, or take the cost out of the "
                "phase's budget in the strategy"
            )
        draft.update(progress=go_on(progress, draft.now, progress.spent))
        return f"resumed: {progress.phase.name} may use up its budget once more"
    raise Refusal("the rollout is not paused, nor is its budget reached")


def retry(draft: Draft, action: ActionSeen) -> str:
    """Verb Retry: a revision that was rolled back is tried again."""
    target, status = draft.seen.target, draft.status
    if status.progress is not None:
        raise Refusal("a rollout is in progress already")
    if target is None or action.spec.revision not in (target.hash, target.digest):
        raise Refusal(
            f"the spec describes revision {target.hash if target else 'unknown'}: only that can be tried"
        )
    if target.hash not in status.rejected_revisions:
        raise Refusal("this revision was not rolled back")
    draft.update(rejected_revisions=tuple(r for r in status.rejected_revisions if r != target.hash))
    return "it is tried again, from the first phase"
