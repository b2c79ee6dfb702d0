"""Verb Override: past something that holds an attempt, for one phase, with a reason in the record.

It shortens no phase and opens no gate; no evidence, approval or rollback can be overridden.
"""

from __future__ import annotations

from typing import Final

from phasegate.api.people import Overridable, Override
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.refusals import Refusal, running

_KEPT: Final = 8


def overridden(draft: Draft, what: Overridable) -> Override | None:
    """Whose word goes past `what` now: in this phase, or for the start of the next attempt."""
    return {o.what: o for o in draft.status.overrides if _holds(draft, o)}.get(what)


def override(draft: Draft, action: ActionSeen) -> str:
    """Verb Override: about the running phase, or about the revision that is to start."""
    status, spec, target = draft.status, action.spec, draft.seen.target
    phase = None
    if status.progress is not None:
        phase = running(draft, action).phase.name
    elif target is None or target.hash == status.stable_revision:
        raise Refusal("no rollout is in progress, and none is about to start")
    elif spec.revision not in (target.hash, target.digest):
        raise Refusal(f"the spec describes revision {target.hash}: only that can start")
    news = tuple(
        Override(
            what=what,
            by=spec.actor,
            reason=spec.reason,
            at=draft.now,
            rollout=status.current_rollout,
            phase=phase,
            revision=spec.revision,
        )
        for what in spec.overrides
    )
    kept = (o for o in status.overrides if _holds(draft, o) and o.what not in spec.overrides)
    draft.update(overrides=(*kept, *news)[-_KEPT:])
    past = ", ".join(spec.overrides)
    return (
        f"{past} overridden for {phase or 'the start'}; a rollback is still possible at any moment"
    )


def _holds(draft: Draft, given: Override) -> bool:
    """True while what it was given for is not over. An attempt's name changes when it starts."""
    status, target = draft.status, draft.seen.target
    if given.rollout != status.current_rollout:
        return False
    progress = status.progress
    if progress is not None:
        return given.phase == progress.phase.name and given.at >= progress.entered_at
    return (
        given.phase is None
        and target is not None
        and given.revision in (target.hash, target.digest)
    )
