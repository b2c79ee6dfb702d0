"""Verb Promote: the next step now, where only people's word is missing. No phase is shortened."""

from __future__ import annotations

from phasegate.rollout.approvals import agree, upcoming
from phasegate.rollout.attempt import run
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.refusals import Refusal, about_candidate, about_phase


def promote(draft: Draft, action: ActionSeen) -> str:
    """Take the next step if its gate has passed; counts as one approval of its actor, never as more.

    What is missing is what this very pass would say without the action.
    """
    progress = about_candidate(draft, action)
    if draft.seen.spec is None or draft.seen.partial:
        raise Refusal("the spec cannot be read, so it is not known what comes next")
    phase = upcoming(draft, progress)
    about_phase(draft, action, phase or progress.phase)
    pass_without = Draft(
        seen=draft.seen, now=draft.now, settings=draft.settings, status=draft.status
    )
    run(pass_without)
    if pass_without.awaiting_approval and phase is not None:
        return agree(draft, progress, phase, action)
    after = pass_without.status.progress
    taken_back = any(record.decision == "RolledBack" for record in pass_without.records)
    if not taken_back and (after is None or after.phase != progress.phase):
        return "nobody's word was missing: it goes on"
    raise Refusal(f"no phase is shortened: {pass_without.message}")
