"""A status that was lost (wiped by hand, restored from a backup): what the records still know."""

from __future__ import annotations

from phasegate.api.records import GateRecord
from phasegate.rollout.decision import RolloutPlan
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import Observed, RecordSeen
from phasegate.rollout.reasons import Reason


def served_before(seen: Observed) -> str | None:
    """The revision that was stable after the newest attempt; None if there was none."""
    last = next((record for record in reversed(seen.records) if record.mine), None)
    if last is None:
        return None
    return last.spec.revision if last.status.phase == "Succeeded" else last.spec.from_revision


def remember_attempts(draft: Draft) -> None:
    """Go on counting where the records end, reject again what was rolled back, end what ran."""
    mine = [record for record in draft.seen.records if record.mine]
    if not mine:
        return
    newest = {record.spec.revision: record for record in mine}
    rejected = [r for r, record in newest.items() if record.status.phase == "RolledBack"]
    draft.update(
        rollouts=mine[-1].spec.number,
        rejected_revisions=tuple(r for r in rejected if r != draft.status.stable_revision)[-32:],
    )
    for record in mine:
        if record.status.phase == "Progressing":
            _close(draft, record)


def _close(draft: Draft, record: RecordSeen) -> None:
    gates = record.status.gates
    why = f"the status of {draft.seen.meta.name} was lost: all traffic goes to the stable revision"
    gate = GateRecord(
        from_phase=gates[-1].to_phase if gates else "",
        to_phase="stable",
        decision="Cancelled",
        reason=Reason.CANCELLED,
        message=why,
        at=draft.now,
    )
    ended = record.status.model_copy(
        update={
            "phase": "Cancelled",
            "message": why,
            "ended_at": draft.now,
            "gates": (*gates, gate),
            "judged_by": None,
        }
    )
    draft.closed.append(RolloutPlan(record.name, record.spec, ended, over=True))
    draft.announce(Reason.CANCELLED, f"{record.name}: {why}", warning=True)
