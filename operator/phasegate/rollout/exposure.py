"""Whom a rollback touched, as far as can be told: an estimate from the calls of the phase."""

from __future__ import annotations

from datetime import datetime

from phasegate.api.records import RollbackRecord
from phasegate.rollout.draft import Draft


def calls_per_second(draft: Draft) -> str | None:
    """Users' calls that the candidate answers, per second of the running phase; "0" for copies.

    Evidence counts from the phase's decision, so this is a little too low for a phase that has
    just begun. None after the last phase: nobody counts calls then.
    """
    progress, judgement = draft.seen.status.progress, draft.seen.judgement
    if progress is None or judgement is None:
        return None
    if progress.phase.type in ("Dark", "Shadow"):
        return "0"
    seconds = (draft.now - progress.entered_at).total_seconds()
    return f"{judgement.candidate_calls / seconds:.4g}" if seconds > 0 else None


def affected_calls(rollback: RollbackRecord, safe_at: datetime) -> int | None:
    """An estimate: all that the revision answered from the onset, or else the decision, to safety."""
    if rollback.calls_per_second is None:
        return None
    began = min(rollback.since or rollback.decided_at, rollback.decided_at)
    seconds = max(0.0, (safe_at - began).total_seconds())
    return round(float(rollback.calls_per_second) * seconds)
