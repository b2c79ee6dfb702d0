"""What the records of attempts should say, from what the status says and this pass decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus, JudgedBy
from phasegate.api.records import GateRecord, IncidentRecord, RecordHead
from phasegate.rollout.chain import CHAIN, furthest
from phasegate.rollout.decision import RolloutPlan
from phasegate.rollout.draft import Draft
from phasegate.rollout.incidents import incidents
from phasegate.rollout.keeping import kept
from phasegate.rollout.late import waits_for_labels
from phasegate.rollout.notices import recorded
from phasegate.rollout.recording import added, holds

PATIENCE = timedelta(seconds=30)
"""How long the next attempt waits for what is still to be written of the one before."""


def records(draft: Draft) -> tuple[RolloutPlan, ...]:
    """The records of the attempt that runs, and of the one before it if a new one starts now.

    What the status already said comes first: its record may have been lost in a crash.
    """
    seen, status = draft.seen, draft.status
    said = [] if seen.status.last_gate is None else [seen.status.last_gate]
    if status.current_rollout == seen.status.current_rollout:
        over = status.progress is None and not waits_for_labels(status, draft.now)
        plans = [_record(draft, status, seen.rollout, [*said, *draft.records], over=over)]
    else:
        plans = [
            _record(draft, seen.status, seen.rollout, said, over=True),
            _record(draft, status, None, draft.records, over=False),
        ]
    return (*draft.closed, *(plan for plan in plans if plan is not None))


def written(draft: Draft) -> bool:
    """Whether the record of the current attempt says all that is known: then the next may begin.

    So the next one's spec names the head of a whole record. A record that is not there, or has
    refused what is news for PATIENCE, holds up nothing.
    """
    record, status = draft.seen.rollout, draft.seen.status
    if record is None:
        return True
    created = {action.uid: action.created for action in draft.seen.actions}
    owed = [created[act.uid] for act in draft.acts if not holds(record, act)]
    if status.last_gate is not None and not holds(record, status.last_gate):
        owed.append(status.last_gate.at)
    owed += [entry.safe_at or entry.decided_at for entry in _incidents(draft, status, record)]
    return all(abs(draft.now - at) > PATIENCE for at in owed)


def head(draft: Draft) -> RecordHead | None:
    """How far the current attempt's record is known to be written."""
    status, record = draft.seen.status, draft.seen.rollout
    if record is None or status.current_rollout is None:
        return status.record
    return furthest(status.record, status.current_rollout, record)


def _record(
    draft: Draft,
    status: AgentDeploymentStatus,
    known: AgentRolloutStatus | None,
    news: Sequence[GateRecord],
    *,
    over: bool,
) -> RolloutPlan | None:
    """The record of the attempt of `status`: what it says already, plus `news`; None if that is all.

    `over`: nothing is judged by it any more, so what that took need not be kept.
    """
    if status.current_rollout is None:
        return None
    before = known or AgentRolloutStatus(started_at=news[0].at if news else draft.now)
    current = status.current_rollout == draft.seen.status.current_rollout
    record = added(
        before,
        {
            "gates": news,
            "actions": draft.acts if current else (),
            "incidents": _incidents(draft, draft.seen.status, before) if current else (),
            "notices": recorded(before.notices, status.notices, draft.now),
        },
    ).model_copy(
        update={
            "judged_by": None if over else _judged_by(draft, status, known),
            "evidence": known.evidence if known is not None and not over else None,
        }
    )
    spec = _rollout_spec(draft, status)
    if spec is None or record == known:
        return None
    return RolloutPlan(status.current_rollout, spec, record, over)


def _incidents(
    draft: Draft, status: AgentDeploymentStatus, known: AgentRolloutStatus
) -> tuple[IncidentRecord, ...]:
    """What the status says of a rollback, and its record does not.

    As it was written into the status: until then its time may still be that of an earlier try.
    """
    if status.rollback is None or status.rollback.rollout != status.current_rollout:
        return ()
    told: set[tuple[str, datetime]] = {(entry.what, entry.decided_at) for entry in known.incidents}
    said = known.incident
    if not known.incidents and said is not None:  # by a version that did not chain
        told.add(("TakenBack", said.decided_at))
        if said.safe_at is not None:
            told.add(("Safe", said.decided_at))
    at = status.rollback.decided_at
    due = [("TakenBack", at), *([("Safe", at)] if status.rollback.safe_at is not None else [])]
    if told.issuperset(due):
        return ()
    found = incidents(draft.seen, status.rollback)
    return tuple(entry for entry in found if (entry.what, entry.decided_at) not in told)


def _judged_by(
    draft: Draft, status: AgentDeploymentStatus, known: AgentRolloutStatus | None
) -> JudgedBy | None:
    before = known.judged_by if known is not None else None
    return before if status.progress is None else kept(draft.seen.policy, before)


def _rollout_spec(draft: Draft, status: AgentDeploymentStatus) -> AgentRolloutSpec | None:
    """What was tried, from the status alone: it survives a crash before the record was created."""
    if status.last_gate is not None and status.last_gate.decision == "Stable":
        revision, digest = status.stable_revision, status.stable_digest
        origin = status.previous_revision or status.stable_revision
    elif status.rollback is not None:
        revision, digest, origin = (
            status.rollback.revision,
            status.rollback.digest,
            status.rollback.to,
        )
    else:
        revision, digest, origin = (
            status.candidate_revision,
            status.candidate_digest,
            status.stable_revision,
        )
    stored = draft.seen.revisions.get(origin or "")
    from_digest = stored.digest if stored is not None else None
    if origin == status.stable_revision:
        from_digest = status.stable_digest
    if revision is None or digest is None or origin is None or from_digest is None:
        return None
    return AgentRolloutSpec(
        agent=draft.seen.meta.name,
        number=max(1, status.rollouts),  # a status that somebody edited may have lost it
        revision=revision,
        digest=digest,
        from_revision=origin,
        from_digest=from_digest,
        chain=CHAIN,
        previous=status.record_before,
    )
