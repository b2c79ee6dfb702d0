"""People's decisions: which are accepted, and what they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from phasegate.api.agentdeployment import Hold
from phasegate.api.rolloutaction import RolloutActionStatus
from phasegate.rollout.budget import go_on, uncounted
from phasegate.rollout.decision import ActionOutcome
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.phases import approved, next_phase, weight_of
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import roll_back

HANDLED = 32
"""Actions remembered as carried out; only those whose outcome is not written yet matter."""


class _Refusal(Exception):
    """Why an action is refused: a sentence for its author."""


def take_actions(draft: Draft) -> None:
    """Give every pending action its outcome, oldest first."""
    for action in draft.seen.actions:
        if action.uid in draft.status.handled_actions:  # it was told then, too
            _outcome(draft, action, accepted=True, message="carried out")
            continue
        try:
            said = _take(draft, action)
        except _Refusal as refusal:
            _settle(draft, action, accepted=False, message=str(refusal))
        else:
            handled = (*draft.status.handled_actions, action.uid)[-HANDLED:]
            draft.update(handled_actions=handled)
            _settle(draft, action, accepted=True, message=said)


def _take(draft: Draft, action: ActionSeen) -> str:
    if draft.seen.identity_problem is not None:
        raise _Refusal(
            "nobody's identity is enforced on this cluster, so no action is accepted: "
            f"{draft.seen.identity_problem}"
        )
    return _HANDLERS[action.spec.verb](draft, action)


def _settle(draft: Draft, action: ActionSeen, *, accepted: bool, message: str) -> None:
    _outcome(draft, action, accepted=accepted, message=message)
    reason = Reason.ACTION_ACCEPTED if accepted else Reason.ACTION_REFUSED
    spec = action.spec
    draft.announce(
        reason, f"{spec.verb} by {spec.actor} ({spec.reason}): {message}", warning=not accepted
    )


def _outcome(draft: Draft, action: ActionSeen, *, accepted: bool, message: str) -> None:
    draft.outcomes.append(
        ActionOutcome(
            action.name,
            RolloutActionStatus(
                outcome="Accepted" if accepted else "Refused",
                message=message,
                rollout=draft.status.current_rollout,
                at=draft.now,
            ),
        )
    )


def _about_candidate(draft: Draft, action: ActionSeen) -> None:
    status = draft.status
    if status.progress is None:
        raise _Refusal("no rollout is in progress")
    if action.spec.revision not in (status.candidate_revision, status.candidate_digest):
        raise _Refusal(
            f"this is about revision {action.spec.revision}, but {status.candidate_revision} is being rolled out"
        )


def _approve(draft: Draft, action: ActionSeen) -> str:
    _about_candidate(draft, action)
    progress = draft.status.progress
    if progress is None or draft.seen.spec is None:
        raise _Refusal("the spec cannot be read, so it is not known what would be approved")
    first = (
        draft.in_first_phase
        and progress.started_at is None
        and progress.phase.approval == "Required"
    )
    upcoming = progress.phase if first else next_phase(draft.spec.strategy, progress.phase)
    if upcoming is None or upcoming.approval != "Required":
        raise _Refusal("no phase that needs an approval lies ahead")
    if progress.approved_by is not None and approved(progress, upcoming):
        return f"{upcoming.name} was already approved by {progress.approved_by}"
    approval = {
        "approved_by": action.spec.actor,
        "approved_phase": upcoming.name,
        "approved_type": upcoming.type,
        "approved_weight": weight_of(upcoming),
    }
    draft.update(progress=progress.model_copy(update=approval))
    return f"{upcoming.name} is approved"


def _roll_back(draft: Draft, action: ActionSeen) -> str:
    _about_candidate(draft, action)
    revision = draft.status.candidate_revision
    roll_back(draft, action.spec.verb, action.spec.reason, by=action.spec.actor)
    return f"traffic is taken from {revision}"


def _pause(draft: Draft, action: ActionSeen) -> str:
    _about_candidate(draft, action)
    progress = draft.status.progress
    if progress is None:
        raise _Refusal("no rollout is in progress")
    hold = Hold(by=action.spec.actor, reason=action.spec.reason, at=draft.now)
    draft.update(progress=progress.model_copy(update={"hold": hold}))
    return "paused: it does not advance; a rollback is still possible at any moment"


def _resume(draft: Draft, action: ActionSeen) -> str:
    _about_candidate(draft, action)
    progress = draft.status.progress
    if progress is not None and progress.hold is not None:
        draft.update(progress=progress.model_copy(update={"hold": None}))
        return "resumed"
    if progress is not None and progress.spent is not None:
        if uncounted(draft, progress):
            raise _Refusal(
                "what the calls cost is not known, so no more of a budget in money can be granted: "
                "add what is missing to the operator's price table, or take the cost out of the "
                "phase's budget in the strategy"
            )
        draft.update(progress=go_on(progress, draft.now, progress.spent))
        return f"resumed: {progress.phase.name} may use up its budget once more"
    raise _Refusal("the rollout is not paused, nor is its budget reached")


def _retry(draft: Draft, action: ActionSeen) -> str:
    target, status = draft.seen.target, draft.status
    if status.progress is not None:
        raise _Refusal("a rollout is in progress already")
    if target is None or action.spec.revision not in (target.hash, target.digest):
        raise _Refusal(
            f"the spec describes revision {target.hash if target else 'unknown'}: only that can be tried"
        )
    if target.hash not in status.rejected_revisions:
        raise _Refusal("this revision was not rolled back")
    draft.update(rejected_revisions=tuple(r for r in status.rejected_revisions if r != target.hash))
    return "it is tried again, from the first phase"


_HANDLERS: Mapping[str, Callable[[Draft, ActionSeen], str]] = MappingProxyType(
    {
        "Approve": _approve,
        "Reject": _roll_back,
        "Rollback": _roll_back,
        "Pause": _pause,
        "Resume": _resume,
        "Retry": _retry,
    }
)
