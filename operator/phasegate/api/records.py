"""Records of what happened: transitions and incidents, shared by several kinds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from phasegate.api.base import Digest, Hash, Message, Name, Person, ShortText, StatusModel
from phasegate.api.verdicts import CheckSummary

GateDecision = Literal["Started", "Advanced", "RolledBack", "Superseded", "Cancelled", "Stable"]

NoticeKind = Literal["Alert", "EarlyWarning", "LateEvidence"]


class GateRecord(StatusModel):
    """One transition: from which phase to which, on what evidence, by whose decision, when."""

    from_phase: ShortText
    to_phase: ShortText
    decision: GateDecision
    reason: ShortText
    message: Message
    at: AwareDatetime
    evidence_at: AwareDatetime | None = None
    """Scrape time of the newest sample that the decision rests on."""
    by: Person | None = None
    checks: Annotated[tuple[CheckSummary, ...], Field(max_length=64)] = ()


class Notice(StatusModel):
    """What people should know although no traffic was taken back: an alert, a trend, late evidence."""

    kind: NoticeKind
    check: ShortText
    message: Message
    since: AwareDatetime
    """When it was first said."""
    quiet_since: AwareDatetime | None = None
    """Since when nothing speaks for it any more; after a while it is over."""
    until: AwareDatetime | None = None
    """When it was over; in an attempt's record."""


class Told(StatusModel):
    """An announcement, as it was made: a crash between the status and its Event loses nothing."""

    type: Literal["Normal", "Warning"]
    reason: ShortText
    message: Message
    at: AwareDatetime


class RollbackRecord(StatusModel):
    """A rollback: what tripped, with which numbers, and how long users were exposed."""

    revision: Hash
    digest: Digest
    to: Hash
    rollout: Name
    phase: ShortText
    trigger: ShortText
    message: Message
    by: Person | None = None
    since: AwareDatetime | None = None
    decided_at: AwareDatetime
    safe_at: AwareDatetime | None = None
    seconds_to_safe: ShortText | None = None
