"""How a handler of a person's decision says no; `actions` turns it into the action's outcome."""

from __future__ import annotations

from phasegate.api.agentdeployment import Phase, Progress
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.phases import phases_of, position


class Refusal(Exception):
    """Why an action is refused: a sentence for its author."""


class Expired(Refusal):
    """Why an action comes too late: what it was about is over."""


def running(draft: Draft, action: ActionSeen) -> Progress:
    """The attempt that `action` is about, in the phase that it is about.

    Raises Expired when that had its turn, Refusal when it is none that is known.
    """
    progress = about_candidate(draft, action)
    about_phase(draft, action, progress.phase)
    return progress


def about_candidate(draft: Draft, action: ActionSeen) -> Progress:
    """The attempt whose revision `action` names; raises as `running` does."""
    status, revision = draft.status, action.spec.revision
    late = Expired if _known(draft, revision) else Refusal
    if status.progress is None:
        raise late("no rollout is in progress")
    if revision not in (status.candidate_revision, status.candidate_digest):
        raise late(
            f"this is about revision {revision}, but {status.candidate_revision} is being rolled out"
        )
    return status.progress


def about_phase(draft: Draft, action: ActionSeen, phase: Phase) -> None:
    """Raise as `running` does unless `action` may be about `phase`, the running or the next one."""
    named, progress = action.spec.phase, draft.status.progress
    if named is None or named == phase.name or progress is None:
        return
    strategy = draft.seen.spec.strategy if draft.seen.spec is not None else None
    here = position(progress.phase)
    past = {p.name for p in phases_of(strategy) if position(p) <= here} if strategy else set()
    if named in past:
        raise Expired(f"this is about {named}, which has begun or is over: {phase.name} it is now")
    raise Refusal(f"this is about {named}, but it is {phase.name} now")


def _known(draft: Draft, revision: str) -> bool:
    """True when this hash or digest is of a revision that was run or tried."""
    status, target = draft.status, draft.seen.target
    told = (
        status.stable_revision,
        status.stable_digest,
        status.previous_revision,
        *status.rejected_revisions,
    )
    stored = ((r.hash, r.digest) for r in draft.seen.revisions.values() if r != target)
    return revision in told or any(revision in names for names in stored)
